"""What a round does: drawn from the seed and the round's number alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from random import Random
from typing import Literal

from liveness import SILENCE_SECONDS
from settings import OnConflict

Origin = Literal["file", "api"]

AWAY_UNTIL_TAKEN_OVER = 30.0
"""Seconds that a killed process stays away so that others have to finish its work."""

API_FAULTS = (
    "close-in-body",
    "status-502",
    "error-in-200",
    "429-retry-after",
    "invalid-json",
    "wrong-page",
)


class Kind(Enum):
    KILL_STARTER = "SIGKILL of a starter"
    KILL_WORKER = "SIGKILL of a worker"
    KILL_ALL = "SIGKILL of starters and workers at once"
    KILL_POSTMASTER = "SIGKILL of PostgreSQL"
    KILL_BACKEND = "SIGKILL of one of PostgreSQL's backends"
    STOP_POSTGRES = "immediate stop of PostgreSQL"
    CUT = "connections cut"
    PAUSE = "SIGSTOP, SIGCONT after the takeover"
    TERMINATE = "SIGTERM"


class Phase(IntEnum):
    """When in an import's life a fault comes, in the order of that life."""

    START_UP = 1
    MIGRATION = 2
    STAGING = 3
    LOADING = 4
    FINISHING = 5


@dataclass(frozen=True)
class Fault:
    """One fault, and its moment: `fraction` of the way through `phase`, then `delay` seconds.

    `choice`, from 0 to 1, chooses among those that it may hit. `seconds` is how long it lasts: a
    killed process or server is away for so long, a stopped one stopped.
    """

    kind: Kind
    phase: Phase
    fraction: float
    delay: float
    choice: float
    seconds: float


@dataclass(frozen=True)
class RoundPlan:
    """One import, those who work at it, and what happens to them.

    `users` includes `rejected` records that can't go in and `repeated` ones that are in twice;
    `known` users are in the table already, with other values. With `migrates` the database is
    empty, else its tables are there. With `proxied` PostgreSQL is reached over TCP, and connections
    are cut between it and the processes.
    """

    seed: int
    number: int
    origin: Origin
    users: int
    rejected: int
    repeated: int
    known: int
    chunk_size: int
    batch_size: int
    concurrency: int
    on_conflict: OnConflict
    starters: int
    workers: int
    migrates: bool
    proxied: bool
    api_faults: tuple[str, ...]
    faults: tuple[Fault, ...]


def plan_round(seed: int, number: int) -> RoundPlan:
    draw = Random(f"{seed}/{number}")
    origin: Origin = "api" if draw.random() < 0.35 else "file"
    users = draw.randint(3_000, 12_000)
    chunk_size = draw.choice((50, 100, 200, 500))
    workers = draw.choice((0, 1, 1, 2))
    migrates = draw.random() < 0.3
    return RoundPlan(
        seed=seed,
        number=number,
        origin=origin,
        users=users,
        rejected=draw.randint(0, users // 50),
        repeated=draw.randint(0, users // 100),
        known=0 if migrates else draw.randint(0, users // 10),
        chunk_size=chunk_size,
        batch_size=draw.choice((1, 10, 10, 50)),
        concurrency=draw.randint(1, 4),
        on_conflict=draw.choice(("skip", "update")),
        starters=draw.choice((1, 1, 1, 2)),
        workers=workers,
        migrates=migrates,
        api_faults=tuple(draw.sample(API_FAULTS, draw.randint(0, 2))) if origin == "api" else (),
        faults=tuple(_faults(draw, workers, migrates)),
        # Drawn last, so that a seed's faults stay what they were before there was a proxy.
        proxied=draw.random() < 0.4,
    )


def _faults(draw: Random, workers: int, migrates: bool) -> Sequence[Fault]:
    faults = [_fault(draw, workers, migrates) for _ in range(draw.randint(4, 10))]
    return sorted(faults, key=lambda fault: (fault.phase, fault.fraction))


def _fault(draw: Random, workers: int, migrates: bool) -> Fault:
    kind = _kind(draw, workers)
    phases = [Phase.START_UP, Phase.STAGING, *[Phase.LOADING] * 5, Phase.FINISHING]
    return Fault(
        kind=kind,
        phase=draw.choice([*phases, Phase.MIGRATION, Phase.MIGRATION] if migrates else phases),
        fraction=draw.random(),
        delay=draw.uniform(0, 0.1),
        choice=draw.random(),
        seconds=_seconds(draw, kind, workers),
    )


def _kind(draw: Random, workers: int) -> Kind:
    weights = {
        Kind.KILL_STARTER: 10,
        Kind.KILL_WORKER: 8 if workers else 0,
        Kind.KILL_ALL: 4,
        Kind.KILL_POSTMASTER: 4,
        Kind.KILL_BACKEND: 2,
        Kind.STOP_POSTGRES: 2,
        Kind.CUT: 4,
        Kind.PAUSE: 1 if workers else 0,
        Kind.TERMINATE: 1,
    }
    return draw.choices(list(weights), list(weights.values()))[0]


def _seconds(draw: Random, kind: Kind, workers: int) -> float:
    if kind is Kind.PAUSE:
        return SILENCE_SECONDS + draw.uniform(1, 5)
    if kind is Kind.KILL_STARTER and workers and draw.random() < 0.4:
        return AWAY_UNTIL_TAKEN_OVER
    return draw.uniform(0, 1.5)
