"""What work costs the server: its processors' time, and its write-ahead log by table."""

import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import psycopg

Connection = psycopg.Connection[Any]

LOOK_SECONDS = 0.01

OTHER = "(other)"
"""Commits, index pages that were split, and all else that is of no table alone."""

RECORD = re.compile(
    r"len \(rec/tot\): +\d+/ *(?P<bytes>\d+).*?blkref #0: rel \d+/\d+/(?P<file>\d+)"
)

TABLE_OF_FILE = """
    SELECT pg_relation_filenode(relation.oid), namespace.nspname || '.' || owner.relname
    FROM pg_class relation
    LEFT JOIN pg_index index ON index.indexrelid = relation.oid
    LEFT JOIN pg_class toasted ON toasted.reltoastrelid = coalesce(index.indrelid, relation.oid)
    JOIN pg_class owner ON owner.oid = coalesce(toasted.oid, index.indrelid, relation.oid)
    JOIN pg_namespace namespace ON namespace.oid = owner.relnamespace
    WHERE relation.relkind IN ('r', 'i', 't')
"""


def cpu_seconds(connection: Connection) -> float:
    """Of all the server's processes since its start, those that have ended included."""
    postmaster = _postmaster(connection)
    times = postmaster.cpu_times()
    ended = times.children_user + times.children_system
    running = [process.cpu_times() for process in [postmaster, *postmaster.children()]]
    return ended + sum(time.user + time.system for time in running)


def processes(connection: Connection) -> int:
    """How many the server has: one for each session, and its own."""
    return len(_postmaster(connection).children())


def wait_for_processes(connection: Connection, wanted: int) -> None:
    """Returns when there are no more than that: a session's time is counted when it has ended."""
    while processes(connection) > wanted:
        time.sleep(LOOK_SECONDS)


def log_position(connection: Connection) -> str:
    """Where the write-ahead log stands."""
    [(position,)] = connection.execute("SELECT pg_current_wal_flush_lsn()::text")
    return str(position)


def log_by_table(connection: Connection, start: str) -> dict[str, int]:
    """Bytes of write-ahead log since a position, by table: its indexes' and its large values' too.

    By pg_waldump, for which the log's files since then have to be there still.
    """
    end = log_position(connection)
    [(programs,)] = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    command = [
        str(Path(programs) / "pg_waldump"),
        f"--path={_data_folder(connection) / 'pg_wal'}",
        f"--start={start}",
        f"--end={end}",
    ]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tables = {str(file): table for file, table in connection.execute(TABLE_OF_FILE)}
    sizes = Counter[str]()
    for record in RECORD.finditer(dumped):
        sizes[tables.get(record["file"], OTHER)] += int(record["bytes"])
    [(total,)] = connection.execute("SELECT pg_wal_lsn_diff(%s, %s)::bigint", [end, start])
    sizes[OTHER] += total - sizes.total()
    return dict(sizes)


def _postmaster(connection: Connection) -> psutil.Process:
    pid_file = _data_folder(connection) / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text().split()[0]))


def _data_folder(connection: Connection) -> Path:
    [(folder,)] = connection.execute("SHOW data_directory")
    return Path(folder)
