"""An import that has ended stays as it is, whoever still works on it or asks for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import imports
from database import Database, transaction
from planning import plan_import
from randomuser import SOURCE
from settings import ImportOptions
from tests.support.databases import Sql
from tests.support.exactly_once import (
    UsersFile,
    assert_exactly_once,
    has_ended,
    is_blocked,
    work_in_hand,
    write_users,
)
from tests.support.programs import Importer, Process
from tests.support.waiting import until


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return write_users(tmp_path, 200, broken_every=50)


@contextmanager
def nothing_staged(url: str) -> Iterator[None]:
    """Holds whoever stages a page in the middle of its transaction."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE staged_pages IN EXCLUSIVE MODE")
        yield


def start_worker(importer: Importer) -> Process:
    worker = importer.spawn("worker")
    worker.wait_for("is ready")
    return worker


def parent_in_worker(importer: Importer, sql: Sql, file: UsersFile) -> Process:
    """A worker in the middle of staging, which it has taken over from a dead starter."""
    starter = importer.spawn("import", "--input", file.path, "--json")
    until(lambda: is_blocked(sql, starter), "the starter stages")
    worker = start_worker(importer)
    starter.kill()
    until(lambda: is_blocked(sql, worker), "the worker stages")
    return worker


def test_stager_that_was_taken_over_stages_nothing_when_it_wakes(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    with nothing_staged(sql.url):
        frozen = parent_in_worker(importer, sql, file)
        frozen.send(signal.SIGSTOP)
    start_worker(importer)
    until(lambda: not work_in_hand(sql, frozen), "takeover")
    until(lambda: has_ended(sql), "the import is complete")
    frozen.send(signal.SIGCONT)
    frozen.wait_for("no longer owned by this execution")

    assert_exactly_once(sql, file)


def test_same_command_at_the_end_of_an_import_does_not_begin_it_anew(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    """Its look at the import comes before the end, its start after it."""
    words = ("import", "--input", file.path, "--json")
    with nothing_staged(sql.url):
        first = importer.spawn(*words)
        until(lambda: is_blocked(sql, first), "the first one stages")
        late = importer.spawn(*words, env={"LOG_LEVEL": "DEBUG"})
        late.wait_for("Verifying system database migrations")
        late.send(signal.SIGSTOP)
    assert first.wait().status == 3
    late.send(signal.SIGCONT)

    assert late.wait().status == 3
    assert_exactly_once(sql, file)


@pytest.mark.parametrize("table", ["staged_pages", "chunks"])
def test_whatever_stops_an_import_is_its_reason(
    importer: Importer, sql: Sql, file: UsersFile, table: str
) -> None:
    sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'made to fail' USING ERRCODE = '57014'; END $$"
    )
    sql(f"CREATE TRIGGER fail BEFORE INSERT ON {table} EXECUTE FUNCTION fail()")
    words = ("import", "--input", file.path, "--json")

    stopped = importer.run(*words)

    assert stopped.status == 1
    assert (stopped.json()["status"], stopped.json()["reason"]) == ("incomplete", "made to fail")
    sql(f"DROP TRIGGER fail ON {table}")
    assert importer.run(*words).status == 3
    assert_exactly_once(sql, file)


def test_import_cancelled_before_it_began_goes_on_with_the_same_command(
    importer: Importer, sql: Sql, db: Database, file: UsersFile
) -> None:
    plan = plan_import(SOURCE, ImportOptions(input=file.path))
    this = transaction("create_import", imports.create, plan)

    assert importer.run("cancel", this.id).status == 0
    assert importer.run("import", "--input", file.path).status == 3
    assert_exactly_once(sql, file)


def test_work_of_another_version_is_not_waited_for(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    words = ("import", "--input", file.path)
    with nothing_staged(sql.url):
        starter = importer.spawn(*words)
        until(lambda: is_blocked(sql, starter), "the starter stages")
        starter.kill()
        sql("UPDATE dbos.workflow_status SET application_version = 'another'")

    refused = importer.run(*words)

    assert refused.status == 1
    assert "begun by version another" in refused.stderr
    assert importer.run("cancel", sql.value("SELECT id FROM imports")).status == 0
    assert importer.run(*words).status == 3
    assert_exactly_once(sql, file)
