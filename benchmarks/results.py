"""What was measured, as `results.json` keeps it, and what the figures are put together to."""

from collections.abc import Callable, Sequence
from statistics import median

import msgspec


class Trial(msgspec.Struct, frozen=True):
    """One run of one contender on a database of its own."""

    contender: str
    round: int
    users: int
    work_seconds: float
    """From the first record read to the last commit, as the program itself tells."""
    whole_seconds: float
    """From the start of the process to its end."""
    cpu_seconds: float
    """Of the program and its helpers, without PostgreSQL's."""
    peak_mb: float
    """The largest resident set, in MiB."""
    worker_peak_mb: float | None = None
    """The same of the worker that helped, where one did."""

    @property
    def speed(self) -> float:
        """Users a second, of the work."""
        return self.users / self.work_seconds

    @property
    def whole_speed(self) -> float:
        """Users a second, with the process's start and its end."""
        return self.users / self.whole_seconds

    @property
    def microseconds_per_user(self) -> float:
        return self.work_seconds / self.users * 1e6


class TableCost(msgspec.Struct, frozen=True):
    """What an import has left in a table, and what it wrote there."""

    table: str
    bytes: int
    """With its indexes and what is stored outside its rows."""
    log_bytes: int
    """Of the write-ahead log."""
    inserted: int
    updated: int
    deleted: int


class Storage(msgspec.Struct, frozen=True):
    """What an import has cost PostgreSQL."""

    contender: str
    users: int
    log_bytes: int
    server_cpu_seconds: float
    """Of all of PostgreSQL's processes."""
    client_cpu_seconds: float
    tables: list[TableCost]


class Spread(msgspec.Struct, frozen=True):
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


class Target(msgspec.Struct, frozen=True):
    """A figure that was aimed at, and what came of it."""

    name: str
    measured: Spread
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        value = self.measured.median
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


class Results(msgspec.Struct, frozen=True):
    taken_at: str
    command: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    users: int
    rounds: int
    throughput: list[Trial]
    short_command: list[Trial]
    growth: list[Trial]
    tracing: list[Trial]
    storage: list[Storage]
    targets: list[Target]


def of(trials: Sequence[Trial], contender: str, users: int | None = None) -> list[Trial]:
    """A contender's trials, by their rounds."""
    chosen = (t for t in trials if t.contender == contender and users in {None, t.users})
    return sorted(chosen, key=lambda trial: trial.round)


def ratio(
    above: Sequence[Trial], below: Sequence[Trial], figure: Callable[[Trial], float]
) -> Spread:
    """Of a figure, pair by pair within the rounds: what slowed a round slowed both."""
    return Spread.of([figure(a) / figure(b) for a, b in zip(above, below, strict=True)])
