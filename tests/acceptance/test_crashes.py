"""SIGKILL at moments that the database tells, each followed by a new start; and Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.standin import Standin, faults
from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    UsersFile,
    assert_exactly_once,
    has_ended,
    is_blocked,
    is_complete,
    loaded_chunks,
    work_in_hand,
    write_users,
)
from tests.support.programs import Importer, Process
from tests.support.waiting import until

INTERRUPTED = 130

HELD = 4711
"""Key of the advisory lock that holds a workflow up."""

MOMENTS = {
    "the import is known": "SELECT 1 FROM imports",
    "its workflow runs": "SELECT 1 FROM dbos.workflow_status WHERE name = 'import_users'",
    "a page is staged": "SELECT 1 FROM staged_pages",
    "a chunk is in hand": "SELECT 1 FROM dbos.workflow_status"
    " WHERE name = 'import_chunk' AND status = 'PENDING'",
    **{
        f"{chunks} chunks are loaded": "SELECT 1 FROM chunks WHERE loaded_at IS NOT NULL"
        f" HAVING count(*) >= {chunks}"
        for chunks in (2, 12, 24, 36, 48, 59)
    },
}


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    """60 chunks of 25."""
    return write_users(tmp_path, 1_500, broken_every=300)


def start(importer: Importer, file: UsersFile) -> Process:
    return importer.spawn("import", "--input", file.path, *SMALL_CHUNKS, "--json")


def test_killed_at_ten_moments_and_started_again_each_time(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    assert len(MOMENTS) == 10
    for moment, has_come in MOMENTS.items():
        running = start(importer, file)
        until(lambda has_come=has_come: sql(has_come), moment)  # type: ignore[misc]
        running.kill()

    result = start(importer, file).wait()

    assert result.status == 3, result.stderr
    assert_exactly_once(sql, file)


def test_killed_between_its_last_commit_and_the_end_of_its_workflow(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    file = write_users(tmp_path, 25)
    with workflows_that_cannot_become(sql, "import_users", "SUCCESS"):
        running = start(importer, file)
        until(lambda: is_complete(sql), "the import has committed")
        kill_with_its_sessions(sql, running)

    result = start(importer, file).wait()

    assert result.status == 3, result.stderr
    assert_exactly_once(sql, file)


def test_a_worker_killed_between_a_chunks_commit_and_the_end_of_its_workflow(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    file = write_users(tmp_path, 50)
    worker = importer.spawn("worker", "--concurrency", "1")
    worker.wait_for("is ready")
    with workflows_that_cannot_become(sql, "import_chunk", "SUCCESS"):
        starter = start(importer, file)
        until(lambda: loaded_chunks(sql) == 2, "each process has loaded a chunk")
        assert work_in_hand(sql, worker)
        kill_with_its_sessions(sql, worker)

    assert starter.wait().status == 3
    assert_exactly_once(sql, file)


def test_a_death_counts_once_though_whoever_counted_it_died_too(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    file = write_users(tmp_path, 25)
    with psycopg.connect(sql.url) as blocker:
        blocker.execute("LOCK TABLE random_users IN EXCLUSIVE MODE")
        starter = start(importer, file)
        until(lambda: is_blocked(sql, starter), "the starter has the chunk in hand")
        with workflows_that_cannot_become(sql, "import_chunk", "ENQUEUED"):
            starter.kill()
            rescuer = importer.spawn("worker")
            until(lambda: sql.value("SELECT takeovers FROM chunks") == 1, "the death is counted")
            kill_with_its_sessions(sql, rescuer)
        importer.spawn("worker")
        until(
            lambda: sql(f"{MOMENTS['a chunk is in hand']} AND queue_name = 'suspect_chunks'"),
            "the chunk is in hand again",
        )

    until(lambda: has_ended(sql), "the import is complete", 60)
    assert sql.value("SELECT takeovers FROM chunks") == 1
    assert_exactly_once(sql, file)


def kill_with_its_sessions(sql: Sql, process: Process) -> None:
    """What the server is executing for a killed process would go on, and be committed."""
    process.kill()
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s",
        f"%-{process.pid}-%",
    )


@contextmanager
def workflows_that_cannot_become(sql: Sql, name: str, status: str) -> Iterator[None]:
    """Holds up what changes the status of a workflow of this name to this one."""
    sql(
        f"""
        CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared({HELD}); RETURN new; END $$
        """
    )
    sql(
        "CREATE TRIGGER hold_up BEFORE UPDATE ON dbos.workflow_status FOR EACH ROW "
        f"WHEN (new.name = '{name}' AND new.status = '{status}') EXECUTE FUNCTION hold_up()"
    )
    with psycopg.connect(sql.url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [HELD])
        yield
    sql("DROP TRIGGER hold_up ON dbos.workflow_status")


def test_a_worker_finishes_what_a_starter_left_for_good(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    starter = start(importer, file)
    until(lambda: loaded_chunks(sql) >= 5, "5 chunks are loaded")
    starter.kill()
    assert work_in_hand(sql, starter), "it left its parent workflow at least"

    importer.spawn("worker").wait_for("is ready")

    until(lambda: has_ended(sql), "the import is complete", 60)
    assert_exactly_once(sql, file)


def test_two_starters_of_one_import(importer: Importer, sql: Sql, file: UsersFile) -> None:
    starters = [start(importer, file) for _ in range(2)]

    results = [starter.wait() for starter in starters]

    assert [result.status for result in results] == [3, 3]
    assert results[0].json()["import_id"] == results[1].json()["import_id"]
    assert_exactly_once(sql, file)


@pytest.mark.parametrize(
    ("moment", "has_come"),
    [
        ("its workflow runs", MOMENTS["its workflow runs"]),
        ("2 chunks are loaded", MOMENTS["2 chunks are loaded"]),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    importer: Importer, sql: Sql, file: UsersFile, moment: str, has_come: str
) -> None:
    running = start(importer, file)
    until(lambda: sql(has_come), moment)
    running.interrupt_group()

    stopped = running.wait(20)

    assert stopped.status == INTERRUPTED
    assert "goes on when the same command is started again" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert start(importer, file).wait().status == 3
    assert_exactly_once(sql, file)


def test_an_import_that_was_stopped_goes_on_by_itself_where_a_worker_runs(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    importer.spawn("worker").wait_for("is ready")
    running = start(importer, file)
    until(lambda: loaded_chunks(sql) >= 2, "2 chunks are loaded")
    running.interrupt_group()

    stopped = running.wait(20)

    assert stopped.status == INTERRUPTED
    assert "or by itself where a worker runs" in stopped.stderr
    until(lambda: has_ended(sql), "the import is complete", 60)
    assert_exactly_once(sql, file)


def test_ctrl_c_while_the_api_is_waited_for(importer: Importer, sql: Sql, api: Standin) -> None:
    command = ("import", "--count", "40", "--seed", "slow")
    api.script(faults.Hang())
    running = importer.spawn(*command)
    until(lambda: api.requests, "the API is asked")
    running.interrupt_group()

    stopped = running.wait(20)

    assert stopped.status == INTERRUPTED
    assert "goes on when the same command is started again" in stopped.stderr
    assert importer.run(*command).status == 0
    assert sql.value("SELECT count(*) FROM random_users") == 40
