"""Who takes part: what each one runs, and what it guarantees after a kill −9."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import data

COMPLETE, WITH_REJECTS = 0, 3
"""Exit statuses of the importer."""

ALL_OR_NOTHING = "None of it, or all. It begins anew, and one bad record ends it."
CHUNK_BY_CHUNK = "Each record once, as a row or as an error; it goes on with the next chunk."

CHUNKS_OF_5000 = ("--batch-size", "5000", "--chunk-size", "5000")
TWO_AT_A_TIME = ("--concurrency", "2")
TUNED = (*CHUNKS_OF_5000, *TWO_AT_A_TIME)
"""For one process, which does it all."""
TUNED_FOR_WORKERS = (*CHUNKS_OF_5000, "--concurrency", "0")
"""For an import that leaves its chunks to workers."""


@dataclass(frozen=True)
class Contender:
    """One way to import users."""

    name: str
    command: Sequence[str]
    """The arguments of Python, without what tells the users."""
    after_a_kill: str
    """What the table holds after a kill −9 and the same command once more."""
    bad: float = 0
    """The share of records that can't go in."""
    workers: int = 0
    """Processes that help, ready before the clock is started."""
    worker_options: Sequence[str] = ()
    from_api: bool = False
    """Whether it fetches the users from the API, not from a file."""
    table: str = "random_users"

    @property
    def is_ours(self) -> bool:
        return self.command[0] == "integration.py"

    @property
    def statuses(self) -> Sequence[int]:
        """With which it may end."""
        return (WITH_REJECTS,) if self.bad else (COMPLETE,)

    @property
    def worker_command(self) -> Sequence[str]:
        return ["integration.py", "worker", *self.worker_options]

    def command_for(self, path: Path, users: int) -> list[str]:
        if self.from_api:
            return [*self.command, "--refresh", "--seed", data.SEED, "--count", str(users)]
        if self.is_ours:
            return [*self.command, "--input", str(path)]
        module, *options = self.command
        return ["-m", f"benchmarks.contenders.{module}", str(path), *options]


def ours(
    name: str, *options: str, bad: float = 0, workers: int = 0, from_api: bool = False
) -> Contender:
    """The importer with some options, and nothing else about it changed."""
    command = ["integration.py", "import", "--json", *options]
    return Contender(name, command, CHUNK_BY_CHUNK, bad, workers, from_api=from_api)


def tuned_with_workers(name: str, from_api: bool = False) -> Contender:
    """The importer that only stages, and two workers."""
    alone = ours(name, *TUNED_FOR_WORKERS, workers=2, from_api=from_api)
    return replace(alone, worker_options=TWO_AT_A_TIME)


COPY_LIMIT = Contender("limit: one COPY", ["copy_limit", "text"], ALL_OR_NOTHING)
COPY_BINARY = Contender("one COPY, binary", ["copy_limit", "binary"], ALL_OR_NOTHING)
DEFAULT = ours("ours")
DEFAULT_TWO = ours("ours, two processes", workers=1)
TUNED_ONE = ours("ours, tuned", *TUNED)
TUNED_TWO = tuned_with_workers("ours, tuned, two workers")
WITH_BAD = (
    ours("ours, 1 % bad", bad=0.01),
    ours("ours, 10 % bad", bad=0.1),
    ours("ours, tuned, 1 % bad", *TUNED, bad=0.01),
    ours("ours, tuned, 10 % bad", *TUNED, bad=0.1),
)
DLT = Contender(
    "dlt, append",
    ["dlt_pipeline", "append"],
    "None of a load, or all; one that had committed just before is appended once more.",
    table="dlt.random_users",
)
WORKFLOWS = Contender(
    "DBOS, a workflow per 10",
    ["dbos_workflows"],
    "As with a step per 10.",
)

CONTENDERS = (
    COPY_LIMIT,
    COPY_BINARY,
    Contender("script: one executemany", ["script"], ALL_OR_NOTHING),
    TUNED_TWO,
    TUNED_ONE,
    DEFAULT_TWO,
    DEFAULT,
    *WITH_BAD,
    Contender(
        "dlt, Arrow and CSV",
        ["dlt_pipeline", "arrow"],
        "As with rows appended.",
        table="dlt.random_users",
    ),
    DLT,
    Contender(
        "dlt, merge",
        ["dlt_pipeline", "merge"],
        "Each once, by its key; the load is done again as a whole.",
        table="dlt.random_users",
    ),
    Contender(
        "procrastinate, a job per 500",
        ["procrastinate_jobs", "500"],
        "Each once, by its key: the file is deferred again; jobs in hand stay `doing` for good.",
    ),
    Contender(
        "procrastinate, a job per 10", ["procrastinate_jobs", "10"], "As with 500 users in a job."
    ),
    Contender(
        "DBOS, a step per 10",
        ["dbos_steps"],
        "Each once, by its key: the workflow is recovered, and the command begins another.",
    ),
    WORKFLOWS,
)

GROWING = (
    ours("ours, two processes, from .jsonl", workers=1),
    ours("ours, two processes, from the API", workers=1, from_api=True),
    tuned_with_workers("ours, tuned, two workers, from .jsonl"),
    tuned_with_workers("ours, tuned, two workers, from the API", from_api=True),
)
"""Those whose time and memory are followed as the number of users grows."""
