"""What an import is: its id, its attempts, its totals and its end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import msgspec
import pytest
from msgspec.structs import replace

import imports
import pages
from database import transaction
from imports import Import, NotRunning, Plan
from insertion import Counts
from planning import plan_import
from randomuser import SOURCE
from settings import ImportOptions
from tests.support.databases import Sql
from tests.support.staging import load, load_chunk, stage
from tests.support.users import users

pytestmark = pytest.mark.usefixtures("db")

T = TypeVar("T")

TOTALS = "SELECT users, imported, updated, skipped, rejected FROM imports"

PLAN = Plan(request="r", source="randomuser", batch_size=10, chunk_size=500)


def new() -> Import:
    return transaction("create", imports.create, PLAN)


def at_once(function: Callable[[], T]) -> list[T]:
    """Four times at the same moment."""
    barrier = Barrier(4)

    def wait_and_call(_: int) -> T:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(wait_and_call, range(4)))


def test_an_import_keeps_its_plan() -> None:
    assert transaction("get", imports.get, new().id).plan == PLAN


def test_a_new_run_of_a_request_has_an_id_of_its_own() -> None:
    first, second = new(), new()

    assert first.id != second.id
    newest = transaction("newest", imports.newest, PLAN.request)
    assert newest is not None
    assert newest.id == second.id


@pytest.mark.parametrize("again", [False, True])
def test_processes_that_ask_for_an_import_at_once_get_the_same_one(again: bool) -> None:
    asked = at_once(lambda: transaction("find_or_create", imports.find_or_create, PLAN, again))

    assert len({this.id for this, _ in asked}) == 1
    assert sorted(is_new for _, is_new in asked) == [False, False, False, True]


@pytest.mark.parametrize(
    ("state", "again", "repeatable", "is_new"),
    [
        ("running", False, True, False),
        ("running", True, True, False),
        ("incomplete", True, True, False),
        ("cancelled", False, False, False),
        ("complete", False, True, False),
        ("complete", True, True, True),
        ("complete", False, False, True),
        ("complete_with_rejects", False, True, False),
    ],
)
def test_an_import_is_gone_on_with_unless_it_is_complete(
    sql: Sql, state: str, again: bool, repeatable: bool, is_new: bool
) -> None:
    plan = replace(PLAN, repeatable=repeatable)
    first = transaction("create", imports.create, plan)
    sql("UPDATE imports SET state = %s", state)

    this, created = transaction("find_or_create", imports.find_or_create, plan, again)

    assert created is is_new
    assert (this.id != first.id) is is_new


def test_processes_that_begin_an_attempt_at_once_begin_the_same_one() -> None:
    this = new()

    begun = at_once(lambda: transaction("attempt", imports.next_attempt, this))

    assert {one.attempt for one in begun} == {2}
    assert {one.workflow_id for one in begun} == {f"{this.id}.2"}


def test_a_finished_import_is_complete_and_keeps_no_pages(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)
    load(this)

    summary = transaction("finish", imports.finish, this.id, this.attempt, None)

    assert summary["status"] == "complete"
    assert sql(TOTALS) == [(25, 25, 0, 0, 0)]
    assert sql.value("SELECT count(*) FROM staged_pages") == 0


def test_rejects_are_told_by_the_state(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, [*users(4), b"{}"])
    load(this)

    assert (
        transaction("finish", imports.finish, this.id, this.attempt, None)["status"]
        == "complete_with_rejects"
    )
    assert sql(TOTALS) == [(5, 4, 0, 0, 1)]


def test_an_import_with_unfinished_chunks_is_incomplete(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)
    load_chunk(this, 1)

    summary = transaction("finish", imports.finish, this.id, this.attempt, None)

    assert summary["status"] == "incomplete"
    assert sql(TOTALS) == [(25, 10, 0, 0, 0)]
    assert sql.value("SELECT count(*) FROM staged_pages") == 1, "needed to go on"


def test_what_kept_it_from_being_complete_is_kept(tmp_path: Path) -> None:
    this = stage(tmp_path, users(5))
    load(this)

    summary = transaction("finish", imports.finish, this.id, this.attempt, "the API stays away")

    assert (summary["status"], summary["reason"]) == ("incomplete", "the API stays away")


def test_an_import_that_was_completed_meanwhile_is_not_begun_anew(tmp_path: Path) -> None:
    seen = complete(tmp_path)

    now = transaction("attempt", imports.next_attempt, seen)

    assert (now.state, now.attempt) == ("complete", seen.attempt)


def test_an_import_that_was_completed_meanwhile_is_not_cancelled(tmp_path: Path) -> None:
    seen = complete(tmp_path)

    assert not transaction("cancel", imports.mark_cancelled, seen.id)
    assert transaction("get", imports.get, seen.id).state == "complete"


def test_a_cancelled_import_does_not_begin() -> None:
    this = new()
    transaction("cancel", imports.mark_cancelled, this.id)

    assert transaction("begin", imports.begin, this.id, this.attempt) is None


@pytest.mark.parametrize("over", ["cancelled", "another attempt", "complete"])
def test_an_attempt_that_is_over_stages_nothing(sql: Sql, tmp_path: Path, over: str) -> None:
    this = complete(tmp_path)
    if over != "complete":
        sql("UPDATE imports SET state = 'running'")
    if over == "cancelled":
        transaction("cancel", imports.mark_cancelled, this.id)
    if over == "another attempt":
        transaction("attempt", imports.next_attempt, this)

    with pytest.raises(NotRunning, match=f"Attempt 1 at import {this.id} is over"):
        pages.stage_file(SOURCE, this)

    assert sql("SELECT * FROM staged_pages") == []


def test_an_attempt_that_is_over_does_not_end_the_next(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25))
    transaction("attempt", imports.next_attempt, this)

    transaction("finish", imports.finish, this.id, this.attempt, "too late")

    assert sql("SELECT state, reason FROM imports") == [("running", None)]


def test_no_chunk_of_a_cancelled_import_is_loaded(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)
    load_chunk(this, 0)
    transaction("cancel", imports.mark_cancelled, this.id)

    assert load_chunk(this, 1) == Counts()
    assert sql.value("SELECT count(*) FROM random_users") == 10
    assert not transaction("remaining", imports.has_remaining_chunks, this.id), "waited for"


def test_a_moved_file_is_gone_on_with(tmp_path: Path) -> None:
    begun = stage(tmp_path, users(25))
    path = Path(begun.plan.path or "")
    moved = path.rename(tmp_path / "moved.jsonl")
    plan = plan_import(SOURCE, ImportOptions(input=moved, chunk_size=500))

    found, is_new = transaction("find_or_create", imports.find_or_create, plan, False)

    assert (found.id, is_new) == (begun.id, False)
    assert transaction("begin", imports.begin, found.id, 1) == msgspec.to_builtins(found.plan)
    assert found.plan.path == str(moved)


def complete(folder: Path) -> Import:
    """An import as a process saw it that did not see its end."""
    this = stage(folder, users(25))
    load(this)
    transaction("finish", imports.finish, this.id, this.attempt, None)
    return this
