"""`prune` and `cancel`: what they leave, what they take, and what goes on afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import retention
from database import Database
from retention import Pruned
from tests.support.databases import Sql
from tests.support.programs import Importer
from tests.support.users import lines_of, users
from tests.support.waiting import until

DAY = timedelta(days=1)
GATE = 7
"""The advisory lock for which some users wait."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users.jsonl"
    path.write_bytes(lines_of(users(600)))
    return path


@contextmanager
def held_up_from(position: int, sql: Sql) -> Iterator[None]:
    """Users from this position on don't get in until it is left."""
    late = [user["login"]["uuid"] for user in users(600)[position:]]
    sql("CREATE TABLE late AS SELECT unnest(%s::uuid[]) AS id", late)
    sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT FROM late WHERE id = new.id)"
        f" THEN PERFORM pg_advisory_xact_lock_shared({GATE}); END IF; RETURN new; END $$"
    )
    sql("CREATE TRIGGER wait BEFORE INSERT ON random_users FOR EACH ROW EXECUTE FUNCTION wait()")
    with psycopg.connect(sql.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [GATE])
        yield


def make_old(sql: Sql) -> None:
    sql("UPDATE imports SET finished_at = finished_at - interval '2 days'")


def workflows(sql: Sql) -> int:
    return int(sql.value("SELECT count(*) FROM dbos.workflow_status WHERE name LIKE 'import%%'"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("30d", timedelta(days=30)), ("90m", timedelta(minutes=90)), ("0s", timedelta())],
)
def test_an_age(written: str, meant: timedelta) -> None:
    assert retention.age(written) == meant


@pytest.mark.parametrize("written", ["", "30", "d", "-1d", "1.5h", "1y", "99999999d"])
def test_no_age(written: str) -> None:
    with pytest.raises(ValueError, match="is no age"):
        retention.age(written)


def test_an_ended_import_loses_its_workflows_only(
    importer: Importer, sql: Sql, db: Database, file: Path
) -> None:
    importer.run("import", "--input", file, "--chunk-size", "300")
    assert retention.prune(db, DAY) == Pruned()
    assert workflows(sql) == 3

    make_old(sql)
    assert retention.prune(db, DAY) == Pruned(workflows=3)

    assert workflows(sql) == 0
    for table in ("operation_outputs", "workflow_input", "workflow_output", "datasource_outputs"):
        assert sql.value(f"SELECT count(*) FROM dbos.{table}") == 0
    again = importer.run("import", "--input", file, "--chunk-size", "300", "--json")
    assert (again.status, again.json()["imported"]) == (0, 600)
    assert sql.value("SELECT count(*) FROM random_users") == 600


def test_an_unfinished_import_is_abandoned_and_begun_anew(
    importer: Importer, sql: Sql, db: Database, file: Path
) -> None:
    sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE insufficient_privilege; END $$"
    )
    sql("CREATE TRIGGER fail BEFORE INSERT ON random_users EXECUTE FUNCTION fail()")
    command = ("import", "--input", file, "--chunk-size", "300", "--json")
    assert importer.run(*command).status == 1
    sql("DROP TRIGGER fail ON random_users")
    make_old(sql)

    pruned = importer.run("prune", "--older-than", "1d", "--json")

    assert pruned.json() == {"abandoned": 1, "pages": 1, "workflows": 3}
    assert sql.value("SELECT count(*) FROM staged_pages") == 0
    assert importer.run(*command).json()["imported"] == 600
    states = sql("SELECT state, users FROM imports ORDER BY started_at")
    assert states == [("abandoned", 600), ("complete", 600)]


def test_an_import_under_way_is_left_alone(
    importer: Importer, sql: Sql, db: Database, file: Path
) -> None:
    with held_up_from(0, sql):
        running = importer.spawn("import", "--input", file, "--chunk-size", "300", "--json")
        until(lambda: sql.value("SELECT count(*) FROM chunks"), "its page is staged")

        assert retention.prune(db, timedelta()) == Pruned()

    assert running.wait().json()["imported"] == 600


def test_cancel_leaves_what_is_in_and_the_import_goes_on_when_asked_for(
    importer: Importer, sql: Sql, file: Path
) -> None:
    command = ("import", "--input", file, "--chunk-size", "20", "--json")
    with held_up_from(100, sql):
        running = importer.spawn(*command)
        until(lambda: sql.value("SELECT count(*) FROM random_users") == 100, "five chunks are in")
        import_id = sql.value("SELECT id FROM imports")

        cancelled = importer.run("cancel", import_id)

        assert cancelled.status == 0
        assert f"Import {import_id} is cancelled; 100 rows that it wrote stay." in cancelled.stdout
        ended = running.wait()
        assert ended.status == 1
        assert ended.stderr.splitlines()[-1].startswith(f"Import {import_id} was cancelled")
        assert sql("SELECT state, imported FROM imports") == [("cancelled", 100)]
        assert sql.value("SELECT count(*) FROM random_users") == 100
        assert importer.run("cancel", import_id).status == 0
    assert importer.run(*command).json()["imported"] == 600
    assert sql.value("SELECT count(*) FROM imports") == 1
    assert sql.value("SELECT count(*) FROM random_users") == 600
