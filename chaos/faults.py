"""What is done to processes and server: each kind of fault, once."""

import signal
from collections.abc import Sequence

import psycopg

from chaos.crew import Crew, Member
from chaos.plan import Fault, Kind
from chaos.server import Server


def inject(fault: Fault, crew: Crew, server: Server) -> int:
    """Does it; returns how often: 0 where there was nobody left to hit."""
    match fault.kind:
        case Kind.KILL_POSTMASTER:
            return int(server.signal_postmaster(signal.SIGKILL, fault.seconds))
        case Kind.STOP_POSTGRES:
            return int(server.signal_postmaster(signal.SIGQUIT, fault.seconds))
        case Kind.KILL_BACKEND:
            return int(server.kill_backend(fault.choice))
        case Kind.CUT:
            return _cut(fault, server)
        case _:
            return _hurt(fault, crew)


def _cut(fault: Fault, server: Server) -> int:
    try:
        return server.cut_connections(fault.choice)
    except psycopg.OperationalError:
        return 0


def _hurt(fault: Fault, crew: Crew) -> int:
    victims = _victims(fault, crew)
    for member in victims:
        match fault.kind:
            case Kind.PAUSE:
                member.pause(fault.seconds)
            case Kind.TERMINATE:
                member.terminate(fault.seconds)
            case _:
                member.kill(fault.seconds)
    return len(victims)


def _victims(fault: Fault, crew: Crew) -> Sequence[Member]:
    match fault.kind:
        case Kind.KILL_ALL:
            return crew.living()
        case Kind.KILL_STARTER:
            candidates = crew.living("starter")
        case Kind.KILL_WORKER:
            candidates = crew.living("worker")
        case _:
            candidates = crew.living()
    return candidates[int(fault.choice * len(candidates)) :][:1]
