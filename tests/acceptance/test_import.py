"""An import as a command: what it says, how it ends, and what starting it again does."""

from pathlib import Path

import pytest

from tests.standin import Standin
from tests.support.databases import Sql
from tests.support.programs import Importer
from tests.support.users import lines_of, users

SUMMARY = {
    "import_id",
    "status",
    "users",
    "imported",
    "updated",
    "skipped",
    "rejected",
    "chunks",
    "seconds",
    "users_per_second",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users.jsonl"
    path.write_bytes(lines_of([*users(29), b"{}"]))
    return path


def test_json_is_one_object_and_the_last_line(importer: Importer, file: Path) -> None:
    result = importer.run("import", "--input", file, "--chunk-size", "10", "--json")

    assert len(result.stdout.splitlines()) == 1
    summary = result.json()
    assert summary.keys() >= SUMMARY
    assert (summary["users"], summary["imported"], summary["rejected"]) == (30, 29, 1)
    assert (summary["status"], summary["chunks"]) == ("complete_with_rejects", 3)
    assert summary["seconds"] > 0
    assert summary["users_per_second"] > 0


def test_log_lines_are_json_once_each_with_their_import(importer: Importer, file: Path) -> None:
    result = importer.run("import", "--input", file, env={"LOG_LEVEL": "DEBUG"})

    lines = result.stderr.splitlines()
    assert len(result.logs()) == len(lines), "nothing but JSON lines"
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in result.logs())
    of_dbos = [line for line in lines if '"logger": "dbos"' in line]
    assert of_dbos
    assert len(of_dbos) == len(set(of_dbos))
    [begun] = [line for line in result.logs() if line["message"].endswith(" begins")]
    assert begun["import"] == begun["message"].split()[1]


def test_the_environment_sets_what_the_options_do(importer: Importer) -> None:
    env = {"IMPORT_COUNT": "30", "IMPORT_CHUNK_SIZE": "10", "IMPORT_JSON": "1"}

    result = importer.run(env=env)

    assert (result.status, result.json()["chunks"], result.json()["users"]) == (0, 3, 30)


def test_an_import_leaves_the_workers_concurrency_as_it_is_set(
    importer: Importer, sql: Sql
) -> None:
    concurrency = "SELECT worker_concurrency FROM dbos.queues WHERE name = 'chunks'"
    assert importer.run("import", "--count", "30").status == 0
    assert sql.value(concurrency) == 4, "the default, where nobody has set it"
    importer.spawn("worker", "--concurrency", "16").wait_for("is ready")

    assert importer.run("import", "--count", "29").status == 0

    assert sql.value(concurrency) == 16
    assert importer.run("import", "--count", "28", "--concurrency", "2").status == 0
    assert sql.value(concurrency) == 2


def test_an_import_can_leave_all_chunks_to_workers(importer: Importer, sql: Sql) -> None:
    importing = importer.spawn(
        "import", "--count", "40", "--chunk-size", "10", "--concurrency", "0"
    )
    importing.wait_for("no worker is there")
    importer.spawn("worker", "--concurrency", "2").wait_for("is ready")

    assert importing.wait().status == 0

    assert sql.value("SELECT count(*) FROM random_users") == 40
    [executor] = sql("SELECT DISTINCT executor_id FROM chunks")
    assert f"-{importing.pid}-" not in executor[0]
    assert sql.value("SELECT worker_concurrency FROM dbos.queues WHERE name = 'chunks'") == 2
    told = importer.run("import", "--count", "39", "--concurrency", "0")
    assert (told.status, "no worker is there" in told.stderr) == (0, False)


def test_more_users_than_a_file_holds_are_all_and_said(
    importer: Importer, sql: Sql, file: Path
) -> None:
    command = ("import", "--input", file, "--count", "10000", "--json", "--quiet")

    result = importer.run(*command)

    assert (result.status, result.json()["users"]) == (3, 30)
    assert "holds 30 records, not 10,000: all are imported" in result.stderr
    assert sql("SELECT wanted, users FROM import_totals") == [(30, 30)]
    again = importer.run("import", "--input", file, "--json")
    assert again.json()["import_id"] == result.json()["import_id"], "all of it is in"


def test_again_runs_a_complete_import_anew(importer: Importer, sql: Sql) -> None:
    first = importer.run("import", "--count", "30", "--json").json()

    again = importer.run("import", "--count", "30", "--json", "--again").json()

    assert (again["imported"], again["skipped"]) == (0, 30)
    assert again["import_id"] != first["import_id"]
    assert sql.value("SELECT count(*) FROM random_users") == 30


def test_an_emptied_table_is_said(importer: Importer, sql: Sql) -> None:
    importer.run("import", "--count", "30")
    sql("TRUNCATE random_users")

    told = importer.run("import", "--count", "30")
    again = importer.run("import", "--count", "30", "--again", "--json")

    assert told.status == 1
    assert "30 of the rows it wrote are gone" in told.stderr
    assert "--again" in told.stderr
    assert again.json()["imported"] == 30


def test_a_database_without_tables_gets_them(importer: Importer, empty_postgres_url: str) -> None:
    result = importer.run(
        "import", "--count", "30", "--json", env={"POSTGRES_URL": empty_postgres_url}
    )

    assert (result.status, result.json()["imported"]) == (0, 30)


def test_check_tells_what_would_be_rejected_and_writes_nothing(
    importer: Importer, sql: Sql, file: Path
) -> None:
    result = importer.run("check", file)

    assert result.status == 3
    assert "29: $.gender: Object missing required field `gender`" in result.stdout
    assert "30 users, 1 would be rejected" in result.stdout
    assert sql.value("SELECT count(*) FROM imports") == 0


def test_errors_are_lines_to_mend(importer: Importer, file: Path) -> None:
    importer.run("import", "--input", file)

    result = importer.run("errors", "--jsonl")

    assert len(result.stdout.splitlines()) == 1
    message = result.json()
    assert (message["position"], message["error"]["path"]) == (29, "$.gender")


def test_cancel_stops_an_import_until_it_is_started_again(
    importer: Importer, sql: Sql, api: Standin
) -> None:
    command = ("import", "--count", "40", "--seed", "cancelled", "--json")
    api.stop()
    running = importer.spawn(*command)
    running.wait_for("trying again")
    import_id = sql.value("SELECT id FROM imports")

    cancelled = importer.run("cancel", import_id[:6])

    assert cancelled.status == 0, cancelled.stderr
    assert f"Import {import_id} is cancelled" in cancelled.stdout
    assert running.wait().status == 1
    api.start()
    assert importer.run(*command).json()["imported"] == 40
