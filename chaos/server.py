"""The round's PostgreSQL: an embedded server of its own, and what is done to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, TupleRow, dict_row

import postgres
from chaos.expectation import earlier
from postgres import DATABASE
from randomuser import UserRow
from settings import PROJECT_FOLDER
from tests.support.proxy import PostgresProxy

MIGRATED = "migrated"
"""A database with all tables and no rows, of which a round's database is a copy."""

EARLIER_IMPORT = "earlier"
OWN_NAME = "chaos"
"""Names the harness's own connections: they are never cut."""


class Server:
    """Started when it is made. What was ended is started again by `tend`, when it is due,
    or by a process of the round that finds it gone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url = postgres.ensure_running(folder)
        # Only a machine that loses its power would notice; making and dropping databases does.
        with self.connect("postgres") as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        self._due: float | None = None
        self._proxy: PostgresProxy | None = None

    @property
    def folder(self) -> Path:
        return self._folder

    @contextmanager
    def reached(self, *, proxied: bool) -> Iterator[Mapping[str, str]]:
        """The variables by which a round's processes find it: through a proxy, or by its folder."""
        if not proxied:
            yield {}
            return
        with PostgresProxy(self._url) as proxy:
            self._proxy = proxy
            try:
                yield {"POSTGRES_URL": proxy.url}
            finally:
                self._proxy = None

    def connect_for_check(self) -> psycopg.Connection[DictRow]:
        """With rows by the names of their columns."""
        return psycopg.connect(
            self._url, autocommit=True, application_name=OWN_NAME, row_factory=dict_row
        )

    def connect(self, name: str = DATABASE) -> psycopg.Connection[TupleRow]:
        """Raises psycopg.OperationalError while the server is down."""
        return psycopg.connect(
            self._url, dbname=name, autocommit=True, application_name=OWN_NAME, connect_timeout=5
        )

    def make_template(self, environment: Mapping[str, str]) -> None:
        """Makes the database MIGRATED, as the migrate command does."""
        command = [sys.executable, "integration.py", "migrate"]
        subprocess.run(command, cwd=PROJECT_FOLDER, env=environment, check=True)
        with self.connect("postgres") as connection:
            connection.execute(f"ALTER DATABASE {DATABASE} RENAME TO {MIGRATED}")

    def renew_database(self, known: Sequence[bytes], *, migrated: bool) -> None:
        """Replaces the database by an empty one, or by one with tables and the known users."""
        template = MIGRATED if migrated else "template1"
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template}")
        if known and migrated:
            self._insert(earlier(known))

    def set_aside(self, name: str) -> None:
        """Keeps the database under another name, for whoever looks for what went wrong."""
        with self.connect("postgres") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [DATABASE],
            )
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(name)
                )
            )

    def signal_postmaster(self, number: signal.Signals, down_seconds: float) -> bool:
        """Ends the server; false when it is down already."""
        try:
            os.kill(self._postmaster(), number)
        except (OSError, ValueError):
            return False
        self._due = time.monotonic() + down_seconds
        return True

    def kill_backend(self, choice: float) -> bool:
        """Kills one session's process, upon which the server ends all and recovers."""
        pids = self._backends()
        if not pids:
            return False
        try:
            psutil.Process(pids[int(choice * len(pids))]).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def cut_connections(self, choice: float) -> int:
        """Cuts all at the proxy, of which the server is not told; without one it ends a part of its
        sessions, at least one where there are any. Returns how many.
        """
        if self._proxy is not None:
            return self._proxy.cut()
        pids = self._backends()
        chosen = pids[: 1 + int(choice * len(pids))]
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [chosen]
            )
        return len(chosen)

    def tend(self) -> None:
        if self._due is not None and time.monotonic() >= self._due:
            self.start()

    def start(self) -> None:
        """Starts it where it does not run."""
        self._due = None
        postgres.ensure_running(self._folder)

    def stop(self) -> None:
        postgres.stop(self._folder)

    def _postmaster(self) -> int:
        return int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def _backends(self) -> list[int]:
        try:
            with self.connect() as connection:
                found = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND datname = %s AND application_name <> %s ORDER BY random()",
                    [DATABASE, OWN_NAME],
                ).fetchall()
        except psycopg.OperationalError:
            return []
        return [int(row[0]) for row in found]

    def _insert(self, rows: Sequence[UserRow]) -> None:
        names = [*UserRow.__struct_fields__, "import_id"]
        copy = sql.SQL("COPY random_users ({}) FROM STDIN").format(
            sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with (
            self.connect() as connection,
            connection.cursor() as cursor,
            cursor.copy(copy) as stream,
        ):
            for row in rows:
                stream.write_row([getattr(row, name) for name in names[:-1]] + [EARLIER_IMPORT])
