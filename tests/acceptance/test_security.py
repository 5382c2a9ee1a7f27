"""What must stay secret stays so, and what must not be needed is not."""

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from tests.support.databases import Server, Sql
from tests.support.odd_records import PASSWORD, VALUES, of, with_raw
from tests.support.programs import PROJECT, Importer
from tests.support.users import encode, lines_of

ROLE = "importer_only"
ROLE_PASSWORD = "s3cret-of-the-role"


def dump(sql: Sql) -> str:
    """Every row of every table of every schema, as text; bytea unpacked where it is staged."""
    tables = sql(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    return "\n".join(
        str(row) for (table,) in tables for row in sql(f"SELECT t::text FROM {table} AS t")
    )


@pytest.fixture
def role_url(postgres_url: str, server: Server, sql: Sql) -> Iterator[str]:
    """The test's database, entered by a role that was granted docs/permissions.sql alone."""
    server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    try:
        script = (PROJECT / "docs" / "permissions.sql").read_text()
        sql(script.replace(':"role"', ROLE))
        url = make_url(postgres_url).set(username=ROLE, password=ROLE_PASSWORD)
        yield url.render_as_string(hide_password=False)
    finally:
        sql(f"DROP OWNED BY {ROLE}")
        server.execute(f"DROP ROLE {ROLE}")


def test_the_passwords_of_users_are_nowhere(importer: Importer, sql: Sql, tmp_path: Path) -> None:
    broken = [with_raw(of(n), "location.city", value) for n, value in enumerate(VALUES, 1)]
    cut = [encode(of(1_000 + at))[:at] for at in range(1_000, 1_300, 30)]
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of([of(5_000), *broken, *cut]))
    # A table away from its place: the chunk fails as a whole, and says why.
    sql("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    sql("CREATE TRIGGER t BEFORE INSERT ON random_users FOR EACH ROW EXECUTE FUNCTION fail()")
    loud = {"LOG_LEVEL": "DEBUG"}

    said = [importer.run("check", file, env=loud)]
    said.append(importer.run("import", "--input", file, "--json", env=loud))
    assert sql.value("SELECT count(*) FROM staged_pages") == 1
    held = dump(sql)
    sql("DROP TRIGGER t ON random_users")
    said.append(importer.run("import", "--input", file, "--json", env=loud))
    said.append(importer.run("errors", "--jsonl", env=loud))
    said.append(importer.run("errors", env=loud))

    assert said[2].status == 3
    assert PASSWORD not in held + dump(sql)
    for result in said:
        assert PASSWORD not in result.stdout + result.stderr


def test_no_table_holds_a_pickle(importer: Importer, sql: Sql, tmp_path: Path) -> None:
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of([of(1), b"{}"]))
    assert importer.run("import", "--input", file).status == 3

    columns = sql(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'dbos' AND column_name IN"
        " ('inputs', 'output', 'error', 'value', 'message')"
    )
    found = [
        value
        for table, column in columns
        for (value,) in sql(f'SELECT "{column}" FROM dbos."{table}" WHERE "{column}" IS NOT NULL')
    ]
    assert found
    for value in found:
        json.loads(value)


def test_a_role_that_may_only_use_the_tables(
    importer: Importer, sql: Sql, role_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of([*(of(n) for n in range(1, 100)), b"{}"]))
    env = {"POSTGRES_URL": role_url}

    worker = importer.spawn("worker", env=env)
    worker.wait_for("is ready")
    command = ("import", "--input", file, "--chunk-size", "10", "--json")
    done = importer.run(*command, env=env)

    assert (done.status, done.json()["imported"]) == (3, 99)
    for others in (["retry"], ["status"], ["errors"], ["prune", "--older-than", "0s"]):
        assert importer.run(*others, env=env).status in {0, 3}
    with (
        psycopg.connect(role_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE mine ()")


def test_the_password_of_the_database_is_nowhere(
    importer: Importer, sql: Sql, role_url: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of([of(1), b"{}"]))
    env = {"POSTGRES_URL": role_url, "LOG_LEVEL": "DEBUG"}

    worker = importer.spawn("worker", env=env)
    worker.wait_for("is ready")
    commands = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    said = [importer.run("import", "--input", file, "--json", env=env)]
    said += [importer.run(*one, env=env) for one in (["status", "--json"], ["errors"])]
    wrong = role_url.replace(ROLE, "nobody_such", 1)
    not_migrated = make_url(role_url).set(database=make_url(empty_postgres_url).database)
    for url in (wrong, not_migrated.render_as_string(hide_password=False)):
        said.append(importer.run("status", env={**env, "POSTGRES_URL": url}))

    assert [one.status for one in said[-2:]] == [1, 1]
    assert ROLE_PASSWORD not in "\n".join(commands)
    assert ROLE_PASSWORD not in worker.stdout + worker.stderr
    assert ROLE_PASSWORD not in dump(sql)
    for result in said:
        assert ROLE_PASSWORD not in result.stdout + result.stderr


def test_control_characters_of_records_reach_no_terminal(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    escape = b'"\\u001b[2J\\u0007\\u009b31m"'
    records = [
        with_raw(of(1), "dob.date", escape),
        b'{"\x1b[2J": 1}',
        b"\x1b[2J\x07",
        b"{%s: NaN}" % escape,
    ]
    file = tmp_path / "users.jsonl"
    file.write_bytes(lines_of(records))

    said = [importer.run("check", file), importer.run("import", "--input", file)]
    said += [importer.run("errors"), importer.run("errors", "--jsonl"), importer.run("status")]

    for result in said:
        seen = (result.stdout + result.stderr).replace("\n", "")
        assert not [letter for letter in seen if ord(letter) < 32 or 127 <= ord(letter) < 160]
