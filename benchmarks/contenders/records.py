"""What every contender starts from and comes to: records of a file, rows of `random_users`."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from randomuser import SOURCE, UserRow

Values = tuple[Any, ...]

COLUMNS = (*UserRow.__struct_fields__, "import_id")
COLUMN_LIST = ", ".join(COLUMNS)
INSERT = (
    f"INSERT INTO random_users ({COLUMN_LIST}) "  # noqa: S608 (names of our own)
    f"VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (id) DO NOTHING"
)
COPY = f"COPY random_users ({COLUMN_LIST}) FROM STDIN"

IMPORT_ID = "benchmark"


def lines(path: Path) -> Iterator[bytes]:
    """The records as they came, one at a time."""
    with path.open("rb") as file:
        yield from file


def batches(path: Path, size: int) -> Iterator[list[str]]:
    """The records as text, for contenders that hand them on by value."""
    remaining = lines(path)
    while batch := [line.decode() for line in islice(remaining, size)]:
        yield batch


def values(record: bytes | str) -> Values:
    """A record decoded, validated and flattened, as the importer does it."""
    line = record.encode() if isinstance(record, str) else record
    return (*msgspec.structs.astuple(SOURCE.decode(line)), IMPORT_ID)


@contextmanager
def timed() -> Iterator[None]:
    """Prints what the body took as JSON: the work, without the process's start and its end."""
    began = time.perf_counter()
    yield
    print(json.dumps({"seconds": time.perf_counter() - began}))
