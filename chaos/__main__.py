"""Plays rounds until they are over, tells how they went, and keeps what went wrong."""

import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import typer
from rich.console import Console

from chaos.crew import environment
from chaos.plan import RoundPlan, plan_round
from chaos.rounds import Outcome, play
from chaos.server import Server
from chaos.tally import Tally

DEFAULT_ROUNDS = 20
VIOLATED = 1
INTERRUPTED = 130


def main(
    seed: Annotated[
        int | None, typer.Option(envvar="SEED", help="Of a run whose plan is wanted again.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(envvar="ROUNDS", min=1, help=f"{DEFAULT_ROUNDS} by default.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(envvar="MINUTES", help="Begin no round after so long.")
    ] = None,
    first: Annotated[int, typer.Option(envvar="FIRST", min=1, help="The round to begin with.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", envvar="KEEP", help="Keep the logs of all rounds.")
    ] = False,
) -> None:
    """Import under random failures, and check every user after each round.

    Example: python -m chaos --seed 7 --rounds 3
    """
    # The processes of a round and the server end with this one, also when it is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    # What the server's start waits for is no news here.
    logging.basicConfig(level=logging.ERROR)
    console = Console()
    seed = SystemRandom().randrange(1_000_000) if seed is None else seed
    console.print(f"SEED={seed}")
    # Short, because a Unix socket's path must be; its processes may be another account's.
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    folder.chmod(0o711)
    tally = Tally()
    server = Server(folder / "pg")
    try:
        server.make_template(environment(folder, server.folder, {}))
        for plan in islice(_plans(seed, first, minutes), _limit(rounds, minutes)):
            tally.outcomes.append(_play(plan, server, folder, console, keep=keep))
    finally:
        server.stop()
        tally.show(console)
    if tally.failed:
        console.print(f"The evidence is in {folder}: logs by round, databases in {server.folder}.")
        raise typer.Exit(VIOLATED)
    if keep:
        console.print(f"The logs are in {folder}.")
    else:
        shutil.rmtree(folder)


def _limit(rounds: int | None, minutes: float | None) -> int | None:
    return DEFAULT_ROUNDS if rounds is None and minutes is None else rounds


def _plans(seed: int, first: int, minutes: float | None) -> Iterator[RoundPlan]:
    end = None if minutes is None else time.monotonic() + minutes * 60
    for number in count(first):
        if end is not None and time.monotonic() > end:
            return
        yield plan_round(seed, number)


def _play(
    plan: RoundPlan, server: Server, folder: Path, console: Console, *, keep: bool
) -> Outcome:
    place = folder / f"round-{plan.number}"
    place.mkdir()
    (place / "plan").write_text(f"{plan}\n")
    outcome = play(plan, server, place)
    _tell(outcome, console)
    if outcome.violations:
        (place / "violations").write_text("\n".join(outcome.violations))
        server.set_aside(place.name)
    elif not keep:
        shutil.rmtree(place)
    return outcome


def _tell(outcome: Outcome, console: Console) -> None:
    plan, recovered = outcome.plan, outcome.recovery_seconds
    hit = ", ".join(f"{number} x {kind.value}" for kind, number in outcome.injected.items())
    end = "not recovered" if recovered is None else f"recovered in {recovered:.1f} s"
    lines = [
        f"round {plan.number}: {outcome.users:,} users of the {plan.origin}, "
        f"{'through a proxy, ' if plan.proxied else ''}"
        f"{plan.starters} starters, {plan.workers} workers; {hit or 'no fault'}; {end}",
        *(
            f"  {ending.member} ended by itself, {ending.status}, after {ending.seconds:.1f} s: "
            f"{ending.last_words}"
            for ending in outcome.endings
        ),
        *(f"  VIOLATION: {violation}" for violation in outcome.violations),
    ]
    if outcome.violations:
        again = f"make chaos SEED={plan.seed} FIRST={plan.number} ROUNDS=1"
        lines.append(f"  To play this round again: {again}")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
