"""Chunks given up as a whole: for a fault outside their records, or for killing their workers."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Sql
from tests.support.programs import Importer, Process
from tests.support.users import lines_of, users, with_value
from tests.support.waiting import until

CHUNK = 20
TAKEOVER_SECONDS = 60
"""For three deaths, each noticed within some seconds, on a busy machine."""


def chunk_errors(sql: Sql) -> list[dict[str, Any]]:
    return [message for (message,) in sql("SELECT message FROM errors")]


def command(file: Path) -> tuple[str | Path, ...]:
    return ("import", "--input", file, "--chunk-size", str(CHUNK), "--json")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("PERFORM FROM nowhere", "42P01"),
        ("RAISE insufficient_privilege", "42501"),
        ("PERFORM pg_sleep(60)", "57014"),
    ],
    ids=["table missing", "permission denied", "statement timeout"],
)
def test_a_fault_outside_the_records(
    importer: Importer, sql: Sql, tmp_path: Path, fault: str, code: str
) -> None:
    found = users(100)
    found[45] = with_value(found[45], "location.city", "Late")
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of(found))
    sql(
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {fault}; RETURN new; END $$"
    )
    sql(
        "CREATE TRIGGER fail BEFORE INSERT ON random_users FOR EACH ROW"
        " WHEN (new.city = 'Late') EXECUTE FUNCTION fail()"
    )
    sql(f'ALTER DATABASE "{sql.value("SELECT current_database()")}" SET statement_timeout = 2000')

    result = importer.run(*command(file))

    summary = result.json()
    assert (result.status, summary["status"]) == (1, "incomplete")
    assert summary["imported"] == 100 - CHUNK
    [error] = chunk_errors(sql)
    assert (error["stage"], error["positions"]) == ("chunk", [40, 59])
    assert error["error"]["sqlstate"] == code

    sql("DROP TRIGGER fail ON random_users")
    before = sql("SELECT id, imported_at FROM random_users")
    again = importer.run(*command(file))

    assert (again.status, again.json()["status"], again.json()["imported"]) == (0, "complete", 100)
    assert chunk_errors(sql) == []
    assert set(before) <= set(sql("SELECT id, imported_at FROM random_users"))
    assert sql.value("SELECT count(*) FROM random_users") == 100


def test_a_chunk_that_kills_its_workers(importer: Importer, sql: Sql, tmp_path: Path) -> None:
    found = users(200)
    found[45] = with_value(found[45], "location.city", "Poison")
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of(found))
    poisonous = {"IMPORT_SOURCE": "tests.support.poison", "PYTHONPATH": "."}

    def start() -> Process:
        return importer.spawn("worker", env=poisonous)

    starter = importer.spawn(*command(file), env=poisonous)
    workers = [start() for _ in range(2)]
    deaths = 0

    def is_given_up() -> bool:
        nonlocal deaths
        for place, worker in enumerate(workers):
            if not worker.is_running:
                deaths += 1
                workers[place] = start()
        return bool(sql("SELECT 1 FROM chunks WHERE failed_at IS NOT NULL"))

    until(is_given_up, "the chunk is given up", TAKEOVER_SECONDS)
    until(
        lambda: sql.value("SELECT count(*) FROM random_users") == 200 - CHUNK,
        "the other chunks are in",
        TAKEOVER_SECONDS,
    )
    until(
        lambda: sql.value("SELECT state FROM imports") == "incomplete",
        "the import ends",
        TAKEOVER_SECONDS,
    )

    [error] = chunk_errors(sql)
    assert (error["stage"], error["positions"]) == ("chunk", [40, 59])
    assert error["error"]["type"] == "WorkerDied"
    assert sql("SELECT chunk, takeovers FROM chunks WHERE failed_at IS NOT NULL") == [(2, 3)]
    assert deaths + (not starter.is_running) == 3
    assert all(worker.is_running for worker in workers)
    pending = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'"
    until(lambda: sql.value(pending) == 0, "no workflow is left pending")
