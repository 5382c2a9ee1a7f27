"""DBOS's own command line on our imports: `dbos workflow list`, `steps`, `cancel`, `resume`."""

from pathlib import Path
from typing import Any

import pytest

import postgres
from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    UsersFile,
    assert_exactly_once,
    has_ended,
    loaded_chunks,
    write_users,
)
from tests.support.programs import Importer, Programs
from tests.support.waiting import until


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    """60 chunks of 25."""
    return write_users(tmp_path, 1_500, broken_every=300)


def test_an_import_is_listed_cancelled_and_resumed(
    importer: Importer, programs: Programs, sql: Sql, file: UsersFile
) -> None:
    programs.environment |= postgres.environment(sql.url)
    starter = importer.spawn("import", "--input", file.path, *SMALL_CHUNKS)
    until(lambda: loaded_chunks(sql) > 2, "some chunks are loaded")
    import_id = sql.value("SELECT id FROM imports")
    parent = f"{import_id}.1"

    dbos(programs, "cancel", parent)
    ended = starter.wait()
    assert ended.status == 1
    assert f"{import_id} was cancelled" in ended.stderr
    [shown] = importer.run("status", "--json").json()
    assert shown["status"] == "cancelled"

    importer.spawn("worker").wait_for("is ready")
    dbos(programs, "resume", parent)
    until(lambda: has_ended(sql), "it is complete")
    assert_exactly_once(sql, file)

    by_id = {found["workflow_id"]: found for found in dbos(programs, "list", "--limit", "100")}
    assert by_id[parent]["name"] == "import_users"
    assert by_id[f"{parent}.2"]["name"] == "import_chunk"
    assert by_id[f"{parent}.2"]["attributes"] == {
        "import": import_id,
        "page": 1,
        "chunk": 2,
        "positions": [50, 74],
    }
    names = [step["function_name"] for step in dbos(programs, "steps", parent)]
    assert names[:3] == ["begin_import", "stage_file", "await_chunks"]


def dbos(programs: Programs, command: str, *arguments: str) -> Any:
    """What it prints."""
    result = programs.run("dbos", "workflow", command, *arguments)
    assert result.status == 0, result.stderr
    return result.json() if result.stdout.strip() else None
