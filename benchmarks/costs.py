"""What each step of an import costs by itself, in microseconds per user, on one core.

python -m benchmarks.costs
"""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

import pages
from benchmarks import data
from insertion import _copy_statement, _insert_statement
from randomuser import SOURCE, RandomUser
from source import Row
from tests.support.databases import running_server

T = TypeVar("T")

USERS = 20_000
REPEATS = 5
CHUNK = 2_500


@dataclass(frozen=True)
class Cost:
    """A step's quickest time of REPEATS, in seconds for USERS users."""

    step: str
    wall: float
    processor: float


def measure(step: str, function: Callable[[], object]) -> Cost:
    times = []
    for _ in range(REPEATS):
        started, busy = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - started, time.process_time() - busy))
    wall, processor = min(times)
    return Cost(step, wall, processor)


def steps(file: Path, connection: "psycopg.Connection[object]") -> Iterator[Cost]:
    """In the order in which a user meets them."""
    lines = list(pages.read_records(SOURCE, file))
    yield measure("read lines", lambda: list(pages.read_records(SOURCE, file)))
    safe = [SOURCE.without_secrets(line) for line in lines]
    yield measure("cut the password out", lambda: [SOURCE.without_secrets(line) for line in lines])
    chunks = list(_slices(safe, CHUNK))
    blocks = [pages.pack(chunk) for chunk in chunks]
    yield measure("pack (msgpack, zstd)", lambda: [pages.pack(chunk) for chunk in chunks])
    yield measure("unpack", lambda: [pages.unpack(block) for block in blocks])
    rows = [SOURCE.decode(record) for record in safe]
    yield measure("decode, check, flatten", lambda: [SOURCE.decode(record) for record in safe])
    for size in (10, CHUNK):
        batches = [
            {"batch": msgspec.json.encode(batch).decode(), "import_id": "x"}
            for batch in _slices(rows, size)
        ]
        yield measure(f"INSERT {size:,} at a time", partial(insert, connection, batches))
    yield measure("COPY", lambda: copy(connection, rows))


def insert(connection: "psycopg.Connection[object]", batches: Sequence[dict[str, str]]) -> None:
    compiled = _insert_statement(RandomUser, "skip").compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    with connection.transaction(force_rollback=True):
        connection.cursor().executemany(str(compiled), batches)


def copy(connection: "psycopg.Connection[object]", rows: Sequence[Row]) -> None:
    with (
        connection.transaction(force_rollback=True),
        connection.cursor().copy(_copy_statement(RandomUser)) as sent,
    ):
        for row in rows:
            sent.write_row(("x", *msgspec.structs.astuple(row)))


def main() -> None:
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="costs-") as folder, running_server() as server:
        file = Path(folder) / "users.jsonl"
        data.write(file, USERS, 0)
        with server.database() as url, psycopg.connect(url) as connection:
            print(f"{'step':24} {'wall':>6} {'processor':>10}   µs per user")
            for cost in steps(file, connection):
                print(
                    f"{cost.step:24} {cost.wall / USERS * 1e6:6.1f} "
                    f"{cost.processor / USERS * 1e6:10.1f}"
                )


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


if __name__ == "__main__":
    main()
