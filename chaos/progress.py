"""How far a round's import is, read from the database while it is under way."""

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from chaos.plan import Fault, Phase
from chaos.server import MIGRATED, Server

START_UP_SECONDS = 1.5
"""What a process takes, about, from its start to its first work."""

TABLES = """
    SELECT count(*) FROM pg_class
    WHERE relkind = 'r' AND relnamespace NOT IN ('pg_catalog'::regnamespace,
                                                 'information_schema'::regnamespace)
"""
STATE = "SELECT state FROM imports ORDER BY started_at LIMIT 1"
CHUNKS = "SELECT count(*), count(loaded_at), count(failed_at) FROM chunks"


@dataclass(frozen=True)
class Progress:
    """`state` is None while there is no import; `ended` are chunks loaded or given up."""

    tables: int = 0
    state: str | None = None
    chunks: int = 0
    ended: int = 0

    @property
    def is_complete(self) -> bool:
        return self.state in ("complete", "complete_with_rejects")


class Watch:
    """Looks at the database over one connection, made anew when it was lost."""

    def __init__(self, server: Server, all_chunks: int) -> None:
        self._server = server
        self._all_chunks = all_chunks
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._all_tables = _count_tables(server)

    def look(self) -> Progress | None:
        """None while the server can't be asked."""
        try:
            if self._connection is None:
                self._connection = self._server.connect()
            return _progress(self._connection)
        except psycopg.OperationalError:
            self.close()
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def has_come(self, fault: Fault, progress: Progress, youngest_age: float) -> bool:
        """Whether the import is where the fault is to hit it."""
        match fault.phase:
            case Phase.START_UP:
                return youngest_age >= fault.fraction * START_UP_SECONDS
            case Phase.MIGRATION:
                return progress.tables >= fault.fraction * self._all_tables
            case Phase.STAGING:
                return progress.state is not None
            case Phase.LOADING:
                return progress.chunks > 0 and progress.ended >= fault.fraction * self._all_chunks
            case Phase.FINISHING:
                return progress.ended >= self._all_chunks


def _progress(connection: psycopg.Connection[TupleRow]) -> Progress:
    tables = _one(connection, TABLES)[0]
    try:
        state = connection.execute(STATE).fetchone()
        chunks, loaded, failed = _one(connection, CHUNKS)
    except psycopg.errors.UndefinedTable:
        return Progress(tables)
    return Progress(tables, None if state is None else state[0], chunks, loaded + failed)


def _count_tables(server: Server) -> int:
    with server.connect(MIGRATED) as connection:
        return int(_one(connection, TABLES)[0])


def _one(connection: psycopg.Connection[TupleRow], query: LiteralString) -> TupleRow:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate always has a row"
    return row
