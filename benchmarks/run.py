"""Measures everything in one go, and writes what came of it.

python -m benchmarks.run --users 50000 --rounds 3
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from benchmarks import experiments, machine, report, targets
from benchmarks.contender import CONTENDERS
from benchmarks.processes import PROJECT, PYTHON, Programs
from benchmarks.results import Results, Trial
from benchmarks.trials import Laboratory
from tests.support.databases import running_server

RESULTS = PROJECT / "benchmarks"
README_BEGIN = "<!-- benchmark: written by `make bench` -->"
README_END = "<!-- end of benchmark -->"

WARM_UP_USERS = 2_000


def main(
    users: Annotated[int, typer.Option(min=2_000, help="Users in a trial.")] = 50_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender runs.")] = 3,
    folder: Annotated[
        Path, typer.Option(help="For results.json, results.md and results.svg.")
    ] = RESULTS,
) -> None:
    """Measure every contender, and write the results."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, running_server() as server:
        laboratory = Laboratory(server, Programs(Path(scratch)), Path(scratch))
        results = measure(laboratory, users, rounds)
    write(results, folder)
    if folder == RESULTS:
        write_readme(results)
    print(report.markdown(results))


def measure(laboratory: Laboratory, users: int, rounds: int) -> Results:
    """Runs all experiments. Raises Failed when a program fails or its rows are wrong."""
    if users > WARM_UP_USERS:
        experiments.warm_up(laboratory, CONTENDERS, WARM_UP_USERS)
    throughput = _run(experiments.throughput(laboratory, users, rounds))
    short_command = _run(experiments.short_command(laboratory, rounds))
    tracing = _run(experiments.tracing(laboratory, users, rounds))
    growth = _run(experiments.growth(laboratory, users))
    storage = list(experiments.storage(laboratory, users))
    return Results(
        taken_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=f"make bench USERS={users} ROUNDS={rounds}",
        commit=machine.commit(),
        machine=machine.size(),
        versions=machine.versions(laboratory.server.url),
        users=users,
        rounds=rounds,
        throughput=throughput,
        short_command=short_command,
        growth=growth,
        tracing=tracing,
        storage=storage,
        targets=[
            *targets.of_throughput(throughput),
            *targets.of_short_command(short_command),
            *targets.of_tracing(tracing),
            *targets.of_growth(growth),
        ],
    )


def write(results: Results, folder: Path) -> None:
    """Writes results.json, results.md and results.svg into a folder."""
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (folder / "results.json").write_bytes(encoded + b"\n")
    (folder / "results.md").write_text(report.markdown(results), encoding="utf-8")
    # In a process of its own: a child's peak memory is at least its parent's, so this stays small.
    subprocess.run([PYTHON, "-m", "benchmarks.plot", str(folder)], cwd=PROJECT, check=True)


def write_readme(results: Results) -> None:
    """Writes the README's part between its two marks."""
    readme = PROJECT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    text = f"{before}{begin}\n\n{report.summary(results)}\n\n{end}{after}"
    readme.write_text(text, encoding="utf-8")


def _run(trials: Iterable[Trial]) -> list[Trial]:
    done = []
    for trial in trials:
        done.append(trial)
        print(
            f"{trial.contender}, {trial.users:,} users: {trial.speed:,.0f} users/s", file=sys.stderr
        )
    return done


if __name__ == "__main__":
    typer.run(main)
