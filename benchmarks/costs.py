"""What each step of an import costs by itself, in microseconds per user, on one core.

python -m benchmarks.costs
"""

import gc
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, make_url, text
from sqlalchemy.orm import Session

import database
import pages
from benchmarks import data
from imports import Plan
from insertion import insert_records
from randomuser import SOURCE
from records import Entry, identify_all, in_order
from tests.support.databases import running_server

T = TypeVar("T")

USERS = 20_000
REPEATS = 5
CHUNK = 2_500
DRIVER = "postgresql+psycopg"


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


def steps(file: Path, engine: Engine) -> Iterator[Cost]:
    """In the order in which a user meets them."""
    lines = list(pages.read_records(SOURCE, file))
    yield measure("read lines", lambda: list(pages.read_records(SOURCE, file)))
    safe = SOURCE.all_without_secrets(lines)
    yield measure("cut the password out", lambda: SOURCE.all_without_secrets(lines))
    chunks = list(_slices(safe, CHUNK))
    blocks = [pages.pack(chunk) for chunk in chunks]
    yield measure("pack (msgpack, zstd)", lambda: [pages.pack(chunk) for chunk in chunks])
    yield measure("unpack", lambda: [pages.unpack(block) for block in blocks])
    yield measure("identify, order", lambda: [_order(chunk) for chunk in chunks])
    yield measure("decode, check, flatten", lambda: consume(map(SOURCE.decode, safe)))
    for name, size in (("INSERT, 10 at a time", 10), ("COPY", CHUNK)):
        yield measure(f"order, decode, {name}", partial(insert, engine, safe, size))


def consume(values: Iterable[object]) -> None:
    """Keeps none of them, as the importer doesn't."""
    deque(values, maxlen=0)


def insert(engine: Engine, records: Sequence[bytes], batch_size: int) -> None:
    """Chunk by chunk in one transaction, which is rolled back."""
    plan = Plan(request="", source=SOURCE.name, batch_size=batch_size, chunk_size=CHUNK)
    with Session(engine) as session:
        # Begins the transaction: without one, the driver's savepoint is a transaction of its own.
        session.execute(text("SELECT 1"))
        for chunk in _slices(records, CHUNK):
            insert_records(session, SOURCE, "x", plan, enumerate(chunk))


def _order(chunk: Sequence[bytes]) -> Sequence[Sequence[Entry]]:
    entries, _ = identify_all(SOURCE, enumerate(chunk))
    return list(in_order(entries))


def main() -> None:
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="costs-") as folder, running_server() as server:
        file = Path(folder) / "users.jsonl"
        data.write(file, USERS, 0)
        with server.database() as url:
            engine = database.make_engine(make_url(url).set(drivername=DRIVER), "costs")
            print(f"{'step':36} {'wall':>6} {'processor':>10}   µs per user")
            for cost in steps(file, engine):
                print(
                    f"{cost.step:36} {cost.wall / USERS * 1e6:6.1f} "
                    f"{cost.processor / USERS * 1e6:10.1f}"
                )


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


if __name__ == "__main__":
    main()
