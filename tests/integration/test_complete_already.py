"""An import that is complete says so when it is started again, and notices rows that are gone."""

from pathlib import Path

import pytest

from tests.support.databases import Sql
from tests.support.programs import Importer
from tests.support.users import lines_of, users


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten users, of whom three come twice."""
    found = users(10)
    path = tmp_path / "users.jsonl"
    path.write_bytes(lines_of([*found, *found[:3]]))
    return path


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_users_that_came_twice_are_not_missed(
    importer: Importer, file: Path, on_conflict: str
) -> None:
    command = ("import", "--input", file, "--on-conflict", on_conflict, "--json")
    first = importer.run(*command)
    again = importer.run(*command)
    assert again.status == 0, again.stderr
    assert again.json() == first.json()
    assert "complete already" in again.stderr


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_a_row_that_is_gone_is_missed(
    importer: Importer, sql: Sql, file: Path, on_conflict: str
) -> None:
    command = ("import", "--input", file, "--on-conflict", on_conflict)
    importer.run(*command)
    sql("DELETE FROM random_users WHERE id IN (SELECT id FROM random_users LIMIT 1)")
    again = importer.run(*command)
    assert again.status == 1
    assert "1 of the rows it wrote are gone" in again.stderr


def test_rows_that_were_only_updated_are_missed_when_all_are_gone(
    importer: Importer, sql: Sql, file: Path
) -> None:
    importer.run("import", "--input", file)
    command = ("import", "--input", file, "--on-conflict", "update")
    importer.run(*command)
    sql("TRUNCATE random_users")
    assert importer.run(*command).status == 1
