"""What a newcomer does: `dbos start` with nothing set up, then a look with the usual tools."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

import postgres
from tests.support.databases import Sql, ended_afterwards
from tests.support.programs import PROJECT, PYTHON, Programs, Result, clean_environment
from tests.support.users import FIELDS, row_of, users

ENV = f'eval "$({PYTHON} integration.py postgres env)" && '

FINGERPRINT = """
    SELECT md5(string_agg(concat(xmin, ctid, t), ',' ORDER BY id)) FROM random_users AS t
"""
"""Changes with any row, and with any row written anew."""

RECORDED = """
    SELECT inputs FROM dbos.workflow_input
    UNION ALL SELECT output FROM dbos.workflow_output
    UNION ALL SELECT output FROM dbos.operation_outputs
    UNION ALL SELECT error FROM dbos.operation_outputs
    UNION ALL SELECT output FROM dbos.datasource_outputs
"""


@dataclass(frozen=True)
class Started:
    """A first `dbos start` in a fresh environment, and how it ended."""

    programs: Programs
    result: Result
    sql: Sql


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("start")
    server = folder / "pg"
    programs = Programs(folder, clean_environment() | {"POSTGRES_FOLDER": str(server)})
    with ended_afterwards(server):
        try:
            result = programs.run("dbos", "start")
            yield Started(programs, result, Sql(postgres.ensure_running(server)))
        finally:
            programs.end()


def test_it_imports_5000_users(started: Started) -> None:
    assert started.result.status == 0, started.result.stderr
    assert "complete" in started.result.stdout
    assert started.sql.value("SELECT count(*) FROM random_users") == 5_000
    assert started.sql.value("SELECT count(*) FROM errors") == 0


def test_every_column_of_every_user_equals_the_source(started: Started) -> None:
    with psycopg.connect(started.sql.url, row_factory=dict_row) as connection:
        query = f"SELECT {', '.join(FIELDS)} FROM random_users ORDER BY id"
        rows = connection.execute(query).fetchall()

    assert rows == sorted((row_of(user) for user in users(5_000)), key=lambda row: row["id"])


def test_each_row_tells_its_import(started: Started) -> None:
    assert started.sql(
        "SELECT DISTINCT u.import_id = i.id, imported_at BETWEEN started_at AND finished_at "
        "FROM random_users u CROSS JOIN imports i"
    ) == [(True, True)]


def test_nothing_that_dbos_keeps_is_pickled(started: Started) -> None:
    kept = [value for (value,) in started.sql(RECORDED) if value is not None]

    assert kept
    for value in kept:
        json.loads(value)


def test_no_workflow_is_left(started: Started) -> None:
    assert started.sql("SELECT DISTINCT status FROM dbos.workflow_status") == [("SUCCESS",)]
    assert started.sql("SELECT * FROM staged_pages") == []


def test_started_again_it_is_complete_and_changes_nothing(started: Started) -> None:
    before = started.sql(FINGERPRINT)

    again = started.programs.run("dbos", "start")

    assert again.status == 0
    assert "is complete already" in again.stderr
    assert started.sql(FINGERPRINT) == before


@pytest.mark.parametrize("alembic_config", [None, "migrations/alembic.ini"])
def test_alembic_finds_the_database(started: Started, alembic_config: str | None) -> None:
    env = {"ALEMBIC_CONFIG": alembic_config} if alembic_config else {}

    upgraded = started.programs.run("alembic", "upgrade", "head", env=env)
    current = started.programs.run("alembic", "current", env=env)

    assert upgraded.status == 0, upgraded.stderr
    assert "(head)" in current.stdout


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pgcli --command 'SELECT count(*) FROM random_users'", "5000"),
        (r"pgcli --command '\d+ random_users'", "login.uuid, the natural key"),
        ("dbos migrate", ""),
        ("dbos workflow list --limit 1", "import_"),
        ('sqlacodegen "$POSTGRES_URL"', "class RandomUsers(Base)"),
        ("python -m psycopg --version; echo $PGDATABASE", "integration"),
    ],
)
def test_other_tools_find_it_after_postgres_env(
    started: Started, command: str, expected: str
) -> None:
    result = started.programs.run("sh", "-c", ENV + command)

    assert result.status == 0, result.stderr
    assert expected in result.stdout


def test_psql_finds_it_after_postgres_env(started: Started) -> None:
    psql = next((Path(PYTHON).parents[1] / "lib").glob("python*/site-packages/**/bin/psql"))

    result = started.programs.run(
        "sh", "-c", f"{ENV} {psql} -Atc 'SELECT max(age) FROM random_users'"
    )

    assert result.stdout.strip() == str(max(user["dob"]["age"] for user in users(5_000)))


def test_dbos_migrate_makes_everything(programs: Programs, empty_postgres_url: str) -> None:
    env = postgres.environment(empty_postgres_url)

    migrated = programs.run("dbos", "migrate", env=env)

    assert migrated.status == 0, migrated.stderr
    made = Sql(empty_postgres_url)("SELECT schemaname || '.' || tablename FROM pg_tables")
    assert {
        ("dbos.workflow_status",),
        ("dbos.datasource_outputs",),
        ("public.random_users",),
        ("public.alembic_version",),
    } <= set(made)
    done = programs.run(PYTHON, PROJECT / "integration.py", "import", "--count", "20", env=env)
    assert done.status == 0, done.stderr
