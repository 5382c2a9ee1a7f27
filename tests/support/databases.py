"""Databases of one embedded server: a new one for each test, copied from a migrated template."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

import postgres
from tests.support.programs import PROJECT, PYTHON, Programs, clean_environment

TEMPLATE = "migrated"
EMPTY = "template1"


@dataclass(frozen=True)
class Server:
    """An embedded server. It and its folder end with `running_server`, whatever the tests did."""

    folder: Path
    url: str
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url_of(self, name: str) -> str:
        url = make_url(self.url).set(database=name)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """The address of a new database, which is dropped in the end, sessions or not."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self.url_of(name)
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def forget_durability(self) -> None:
        """Only a machine that loses its power would notice; making and dropping databases does."""
        self.execute("ALTER SYSTEM SET fsync = off")
        self.execute("SELECT pg_reload_conf()")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class Sql:
    """Statements on a test's database, each in a transaction of its own."""

    url: str

    def __call__(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Executes one; its rows, where it has any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: object) -> Any:
        """The only value of the only row."""
        [(value,)] = self(statement, *parameters)
        return value


@contextmanager
def running_server() -> Iterator[Server]:
    """A new server with the migrated template. It ends with this process, even a killed one."""
    folder = Path(tempfile.mkdtemp(prefix="pg-")) / "s"
    with ended_afterwards(folder):
        server = Server(folder, postgres.ensure_running(folder))
        server.execute(f'CREATE DATABASE "{TEMPLATE}"')
        _migrate(folder.parent, server.url_of(TEMPLATE))
        yield server


@contextmanager
def ended_afterwards(folder: Path) -> Iterator[None]:
    """The server of `folder`, if there is one by then, ends and goes, with the folder's parent."""
    command = [PYTHON, "-m", "tests.support.end_server", str(folder)]
    # In a session of its own: Ctrl-C is for the tests.
    guard = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()


def _migrate(folder: Path, url: str) -> None:
    programs = Programs(folder, clean_environment() | {"POSTGRES_URL": url})
    result = programs.run(PYTHON, PROJECT / "integration.py", "migrate")
    assert result.status == 0, result.stderr
