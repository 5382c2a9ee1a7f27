"""PostgreSQL is lost while a process starts: it was there once, so it is waited for."""

import signal
from pathlib import Path

import psycopg
import pytest

from tests.support.databases import Sql
from tests.support.exactly_once import UsersFile, assert_exactly_once, is_blocked, write_users
from tests.support.programs import Importer
from tests.support.proxy import Cut, Moment, PostgresProxy
from tests.support.waiting import until

REJECTS = 3
INTERRUPTED = 130
STOP_SECONDS = 10
WAITING = '"waiting": true'

START_UP = (
    b"datasource_migrations",
    b"alembic_version",
    b"pg_catalog.pg_class",
    b"pg_advisory_xact_lock",
    b"pg_advisory_lock",
    b"queues",
    b"dbos_migrations",
    b"application_versions",
)
"""In a statement of each part of a start on a migrated database."""

MIGRATION = (
    b"workflow_status",
    b"datasource_outputs",
    b"CREATE TABLE random_users",
)
"""In a statement of each of the three that migrate: DBOS's tables, the checkpoints', ours."""


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return write_users(tmp_path, 300, broken_every=100)


def import_with_cuts(
    importer: Importer, url: str, file: UsersFile, words: tuple[bytes, ...]
) -> None:
    with PostgresProxy(url) as proxy:
        for word in words:
            proxy.script(Cut([word], Moment.BEFORE_ANSWER))
        result = importer.run("import", "--input", file.path, env={"POSTGRES_URL": proxy.url})
    assert result.status == REJECTS, result.stderr
    assert proxy.cuts == len(words)
    assert WAITING in result.stderr


def test_connection_lost_at_the_start(importer: Importer, sql: Sql, file: UsersFile) -> None:
    import_with_cuts(importer, sql.url, file, START_UP)
    assert_exactly_once(sql, file)


def test_connection_lost_in_a_migration(
    importer: Importer, empty_postgres_url: str, file: UsersFile
) -> None:
    import_with_cuts(importer, empty_postgres_url, file, MIGRATION)
    assert_exactly_once(Sql(empty_postgres_url), file)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["import", "worker"])
def test_signal_ends_a_start_that_waits_for_the_server(
    importer: Importer, sql: Sql, command: str, number: signal.Signals
) -> None:
    with PostgresProxy(sql.url) as proxy, psycopg.connect(sql.url) as blocker:
        blocker.execute("LOCK TABLE alembic_version")
        starting = importer.spawn(command, env={"POSTGRES_URL": proxy.url})
        until(lambda: is_blocked(sql, starting), "it looks at the tables")
        proxy.refuse()
        starting.wait_for(WAITING)
        starting.send(number)
        assert starting.wait(STOP_SECONDS).status == INTERRUPTED
