"""Sessions of the server: one of our own that sees to its database, and those of others."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from postgres.address import DATABASE, PORT, USER, socket_folder
from postgres.errors import PostgresError
from postgres.layout import server_log
from postgres.locks import Patience
from postgres.postmaster import running_url
from postgres.server import start_server

if TYPE_CHECKING:
    import psycopg

CLOSING_SECONDS = 0.5
"""How long the server may go on listing a session that its client has just closed."""

_log = logging.getLogger(__name__)


def ensure_database(folder: Path, patience: Patience) -> None:
    """See that the server runs, and that its database is there."""
    import psycopg

    refusal = ""

    def ensured() -> bool:
        nonlocal refusal
        # Asked each time: if it dies now, nobody else can start it, for they wait for our lock.
        if running_url(folder) is None:
            start_server(folder, patience)
        try:
            with _connect(folder) as connection:
                found = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(found, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            refusal = str(error).strip()
            return False
        return True

    if not patience.until(ensured, f"PostgreSQL in {folder} takes no connections yet"):
        raise PostgresError(
            f"PostgreSQL in {folder} runs but takes no connections: {refusal}. "
            f"See its log, {server_log(folder)}."
        )


def has_sessions(folder: Path, own_sessions: str | None) -> bool:
    """Whether any client is connected; one that can't be asked counts as yes."""
    import psycopg

    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " AND application_name IS DISTINCT FROM %s"
    )

    def none_left() -> bool:
        row = connection.execute(others, [own_sessions]).fetchone()
        return row is not None and row[0] == 0

    try:
        with _connect(folder) as connection:
            return not Patience(CLOSING_SECONDS, _log.debug).until(none_left, "Sessions are open")
    except psycopg.OperationalError:
        return True


def _connect(folder: Path) -> "psycopg.Connection[tuple[int]]":
    import psycopg

    return psycopg.connect(
        host=str(socket_folder(folder)),
        port=PORT,
        user=USER,
        dbname="postgres",
        autocommit=True,
        connect_timeout=10,
    )
