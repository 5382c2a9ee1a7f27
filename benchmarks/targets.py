"""The figures that are aimed at, each put together from the trials of one run."""

from collections.abc import Sequence

from benchmarks.contender import (
    COPY_LIMIT,
    DEFAULT,
    DLT,
    GROWING,
    TUNED_ONE,
    TUNED_TWO,
    WORKFLOWS,
    Contender,
)
from benchmarks.experiments import GROWTH, TRACED
from benchmarks.results import Spread, Target, Trial, of, ratio


def of_throughput(trials: Sequence[Trial]) -> list[Target]:
    """How many times as fast as the others, by the work alone."""

    def speed(one: Contender, other: Contender) -> Spread:
        return ratio(of(trials, one.name), of(trials, other.name), lambda trial: trial.speed)

    return [
        Target("Defaults, against dlt", speed(DEFAULT, DLT), at_least=4),
        Target("Defaults, against a workflow per 10", speed(DEFAULT, WORKFLOWS), at_least=20),
        Target("Tuned, against dlt", speed(TUNED_TWO, DLT), at_least=12),
        Target("Tuned, against the limit", speed(TUNED_TWO, COPY_LIMIT), at_least=0.6),
        # Tuned: with batches of ten, PostgreSQL takes as long as the process.
        Target(
            "Two workers, against one process, tuned", speed(TUNED_TWO, TUNED_ONE), at_least=1.4
        ),
    ]


def of_short_command(trials: Sequence[Trial]) -> list[Target]:
    seconds = ratio(
        of(trials, DEFAULT.name, trials[0].users),
        of(trials, DLT.name, trials[0].users),
        lambda trial: trial.whole_seconds,
    )
    return [Target("Time of a short command, against dlt", seconds, at_most=0.75)]


def of_tracing(trials: Sequence[Trial]) -> list[Target]:
    seconds = ratio(
        of(trials, TRACED.name), of(trials, DEFAULT.name), lambda trial: trial.work_seconds
    )
    return [Target("Time traced, against untraced", seconds, at_most=1.15)]


def of_growth(trials: Sequence[Trial]) -> list[Target]:
    """Of all ways to import, each figure's worst: time, and memory of whichever process."""
    small = min(trial.users for trial in trials)
    pairs = [
        (of(trials, contender.name, small), of(trials, contender.name, small * GROWTH))
        for contender in GROWING
    ]
    time = [ratio(large, few, lambda trial: trial.microseconds_per_user) for few, large in pairs]
    memory = [ratio(large, few, lambda trial: trial.peak_mb) for few, large in pairs]
    memory += [ratio(large, few, _worker_peak) for few, large in pairs]
    largest = max(max(trial.peak_mb, _worker_peak(trial)) for trial in trials)
    times = f"{GROWTH} times the users"
    return [
        Target(f"Time per user, of {times}", _worst(time), at_most=1.3),
        Target(f"Memory, of {times}", _worst(memory), at_most=1.25),
        Target("Largest memory of a process, MiB", Spread.of([largest]), at_most=300),
    ]


def _worker_peak(trial: Trial) -> float:
    return trial.worker_peak_mb or 0


def _worst(ratios: Sequence[Spread]) -> Spread:
    return max(ratios, key=lambda spread: spread.median)
