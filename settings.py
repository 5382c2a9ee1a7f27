"""What can be set, and what holds when nothing is: read from the environment only when asked."""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROJECT_FOLDER = Path(__file__).resolve().parent
"""Where the code, `data/` and `.postgres/` stand, whatever the current folder is."""

APPLICATION_NAME = "integration"
APPLICATION_VERSION = "2"
"""Which DBOS work this code may take up. Raised only when workflows of older code would go wrong
under it (CONTRIBUTING.md): DBOS's default, a hash of the source, strands imports at every edit."""

MAX_NAME_BYTES = 63
"""Of what PostgreSQL takes for a name; the rest of a longer one it drops."""

IMPORT_QUEUE = "imports"
CHUNK_QUEUE = "chunks"
SUSPECT_QUEUE = "suspect_chunks"
"""Chunks whose worker has died run here, one at a time, so that a poisonous one is found alone."""

CHUNK_POLLING_SECONDS = 0.05
TAKEOVER_POLLING_SECONDS = 1.0
"""Of the queues that only takeovers fill: each look costs time, here and in PostgreSQL."""

DEFAULT_SOURCE = "randomuser"
DEFAULT_CONCURRENCY = 4
DEFAULT_BATCH_SIZE = 10
DEFAULT_CHUNK_SIZE = 2_500
"""Users in a transaction: with 500, DBOS's bookkeeping for a chunk takes as long as its work."""

OnConflict = Literal["skip", "update"]


@dataclass(frozen=True)
class ImportOptions:
    """What one import is asked to do.

    `count` is in records; `None` means all of a file, or the source's own default. `parameters`
    are the source's own (for randomuser.me: `seed` and `nat`); only those given are in it.
    """

    count: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    input: Path | None = None
    refresh: bool = False
    again: bool = False
    on_conflict: OnConflict = "skip"
    batch_size: int = DEFAULT_BATCH_SIZE
    chunk_size: int = DEFAULT_CHUNK_SIZE


def cache_file() -> Path:
    """The cached answer of the API, taken when nothing else is asked for."""
    return Path(os.environ.get("IMPORT_CACHE") or PROJECT_FOLDER / "data" / "data.json")


def postgres_url() -> str | None:
    """`POSTGRES_URL`, or None where it is unset or empty: then the embedded server serves."""
    return os.environ.get("POSTGRES_URL") or None


def postgres_folder() -> Path:
    """The embedded server's data folder."""
    return Path(os.environ.get("POSTGRES_FOLDER") or PROJECT_FOLDER / ".postgres")


def log_level() -> str:
    """`LOG_LEVEL`, INFO where it is unset."""
    return (os.environ.get("LOG_LEVEL") or "INFO").upper()


def executor_id() -> str:
    """A name for this process that no other live process has: DBOS's work is owned by it.

    PostgreSQL shows it whole as a session's `application_name`, by which the sessions of a dead
    process are found: that holds 63 bytes, of ASCII alone.
    """
    tail = f"-{os.getpid()}-{os.urandom(3).hex()}"
    return _host(MAX_NAME_BYTES - len(tail)) + tail


def _host(length: int) -> str:
    host = re.sub(r"[^!-~]", "-", socket.gethostname())
    if len(host) <= length:
        return host
    # A pod is told from others by the end of its name, a machine with its domain by the beginning.
    part = (length - 2) // 2
    return f"{host[:part]}..{host[-part:]}"
