"""An import whose processes are all dead: whoever looks sees it, and what to type."""

from pathlib import Path

import pytest

from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    UsersFile,
    assert_exactly_once,
    has_ended,
    loaded_chunks,
    write_users,
)
from tests.support.programs import Importer
from tests.support.waiting import until

SHOWN = "python integration.py worker"


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    """60 chunks of 25."""
    return write_users(tmp_path, 1_500, broken_every=300)


def test_a_killed_import_is_shown_as_stalled_until_a_worker_takes_it_over(
    importer: Importer, sql: Sql, file: UsersFile, tmp_path: Path
) -> None:
    starter = importer.spawn("import", "--input", file.path, *SMALL_CHUNKS)
    until(lambda: loaded_chunks(sql) > 2, "some chunks are loaded")
    assert status_of(importer)["status"] == "running"

    starter.kill()
    # The server frees its lock a moment after its end.
    until(lambda: status_of(importer)["status"] == "stalled", "it is stalled")

    import_id = str(status_of(importer)["import_id"])
    [as_json] = importer.run("status", import_id, "--json").json()
    assert as_json["running_chunks"] == 0
    assert [f"-{starter.pid}-" in name for name in as_json["dead_processes"]] == [True]
    detailed = importer.run("status", import_id)
    assert "stalled" in detailed.stdout
    assert SHOWN in detailed.stdout
    assert f"-{starter.pid}-" in detailed.stdout
    assert SHOWN in importer.run("status").stdout
    report = tmp_path / "report.html"
    assert importer.run("report", "--output", report).status == 0
    assert SHOWN in report.read_text()

    importer.spawn(*SHOWN.split()[2:])
    until(lambda: has_ended(sql), "it is complete")
    assert_exactly_once(sql, file)


def status_of(importer: Importer) -> dict[str, object]:
    [only] = importer.run("status", "--json").json()
    assert isinstance(only, dict)
    return only
