"""A process that lives is not taken for dead because its lock is gone for a moment."""

from pathlib import Path

import psycopg

import liveness
from tests.support.databases import Sql
from tests.support.exactly_once import SMALL_CHUNKS, assert_exactly_once, is_blocked, write_users
from tests.support.programs import Importer
from tests.support.waiting import until

HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s"


def lock_holders(sql: Sql) -> set[int]:
    """The sessions that show a process's presence."""
    return {pid for (pid,) in sql(HOLDERS, liveness.LOCK_CLASS)}


def test_nothing_is_taken_over_from_processes_whose_locks_were_cut(
    importer: Importer, sql: Sql, postgres_url: str, tmp_path: Path
) -> None:
    file = write_users(tmp_path, 1_000)
    with psycopg.connect(postgres_url) as blocker:
        blocker.execute("LOCK TABLE random_users IN EXCLUSIVE MODE")
        starter = importer.spawn("import", "--input", file.path, *SMALL_CHUNKS)
        until(lambda: is_blocked(sql, starter), "the starter has a chunk in hand")
        worker = importer.spawn("worker")
        until(lambda: is_blocked(sql, worker), "the worker has a chunk in hand")
        before = lock_holders(sql)
        sql(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS held", liveness.LOCK_CLASS)
        until(lambda: len(lock_holders(sql) - before) == 2, "both have their locks again")
    assert starter.wait().status == 3
    assert sql.value("SELECT sum(takeovers) FROM chunks") == 0
    assert_exactly_once(sql, file)
