"""The bookshop of `examples/`: pages chained by cursors, orders with lines in a second table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

import imports
import pages
import retrying
from client import WrongAnswer
from database import Database, transaction
from examples.bookshop.models import Base
from examples.bookshop.orders import MAX_LIMIT, SOURCE
from examples.bookshop.standin import Bookshop, answer
from imports import Import
from insertion import Counts
from planning import plan_import
from settings import ImportOptions
from source import Page, Query, RecordError, SourceError
from tests.support import staging
from tests.support.bookshop import (
    ALEMBIC_CONFIG,
    Order,
    assert_tables_hold,
    orders,
    write_orders,
)
from tests.support.databases import Sql
from tests.support.programs import PROJECT

CONFIG = Config(PROJECT / ALEMBIC_CONFIG)


@pytest.fixture
def tables(db: Database, sql: Sql) -> Sql:
    """The test's database, which has the bookshop's tables."""
    command.upgrade(CONFIG, "head")
    return sql


@pytest.fixture
def bookshop() -> Iterator[Bookshop]:
    with Bookshop(orders(250)) as running:
        yield running


def fetch_all(query: Query) -> Iterator[Page]:
    cursor: str | None = SOURCE.first_cursor
    while cursor is not None:
        page = SOURCE.fetch(query, cursor)
        yield page
        cursor = page.next_cursor


def records_of(found: Sequence[Page]) -> list[Any]:
    return [json.loads(record) for page in found for record in page.records]


def test_each_page_leads_to_the_next(bookshop: Bookshop) -> None:
    found = list(fetch_all(Query(bookshop.url, None)))

    assert [len(page.records) for page in found] == [100, 100, 50]
    assert records_of(found) == orders(250)
    assert "after" not in bookshop.requests[0]
    assert all("after" in request for request in bookshop.requests[1:])


@pytest.mark.parametrize("count", [1, 100, 130, 250, 1_000])
def test_no_more_is_fetched_than_asked_for(bookshop: Bookshop, count: int) -> None:
    found = list(fetch_all(Query(bookshop.url, count)))

    assert records_of(found) == orders(min(count, 250))
    asked = [int(request["limit"]) for request in bookshop.requests]
    assert sum(asked) == count or count > 250


def test_an_import_has_an_end_while_orders_come_in(bookshop: Bookshop) -> None:
    until = orders(131)[130]["placed_at"]

    found = list(fetch_all(Query(bookshop.url, None, {"until": until})))

    assert records_of(found) == orders(130)
    assert SOURCE.pinned(Query(bookshop.url, None)).parameters["until"]


def test_a_cursor_that_is_none_is_refused_at_once(bookshop: Bookshop) -> None:
    with pytest.raises(SourceError, match="answered 400"):
        SOURCE.fetch(Query(bookshop.url, None), "100:made-up")

    assert len(bookshop.requests) == 1


@pytest.mark.parametrize("wrong", ["too long", "the same again", "of another API"])
def test_a_wrong_page_is_not_taken(wrong: str) -> None:
    def answer_wrong(found: Sequence[Any], parameters: Mapping[str, str]) -> Mapping[str, Any]:
        right = answer(found, parameters)
        return {
            "too long": {**right, "data": list(found)},
            "the same again": {**right, "next": parameters.get("after")},
            "of another API": {"results": right["data"]},
        }[wrong]

    with Bookshop(orders(250), answer=answer_wrong) as running:
        query = Query(running.url, None)
        after = answer(orders(250), {"limit": str(MAX_LIMIT)})["next"]
        with pytest.raises(WrongAnswer):
            SOURCE.fetch(query, f"{MAX_LIMIT}:{after}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.id", 0),
        ("$.id", 2**63),
        ("$.id", "9000000000"),
        ("$.placed_at", "2026-01-01T00:00:00"),
        ("$.customer", "C\0"),
        ("$.lines", None),
        ("$.lines[1].quantity", "two"),
        ("$.lines[1].quantity", 2**31),
        ("$.lines[1].title", "Em\0ma"),
        ("$.lines[1].price_cents", float("nan")),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object) -> None:
    order = with_lines(2)
    target: Any = order["lines"][1] if path.startswith("$.lines[1]") else order
    target[path.rpartition(".")[2]] = value

    with pytest.raises(RecordError) as caught:
        SOURCE.decode(json.dumps(order).encode())

    assert caught.value.path == path


def test_a_missing_field_of_a_line_is_named() -> None:
    order = with_lines(3)
    del order["lines"][2]["isbn"]

    with pytest.raises(RecordError) as caught:
        SOURCE.decode(json.dumps(order).encode())

    assert caught.value.path == "$.lines[2].isbn"
    assert SOURCE.identify(json.dumps(order).encode()) == order["id"]


def with_lines(count: int) -> Order:
    return next(order for order in orders(100) if len(order["lines"]) == count)


def stage(
    folder: Path, found: Sequence[Order], on_conflict: Literal["skip", "update"] = "skip"
) -> Import:
    """A new import of these orders, staged."""
    path = write_orders(folder / "orders.jsonl", found)
    options = ImportOptions(input=path, chunk_size=50, on_conflict=on_conflict)
    this = transaction("create_import", imports.create, plan_import(SOURCE, options))
    pages.stage_file(SOURCE, this)
    return this


def test_orders_and_lines_go_in(tables: Sql, tmp_path: Path) -> None:
    counts = staging.load(stage(tmp_path, orders(120)))

    assert counts == Counts(imported=120)
    assert_tables_hold(tables, orders(120))


def changed(order: Order) -> Order:
    """The order with another customer, its last line gone and another first."""
    other = {**order["lines"][0], "title": "Persuasion"}
    return {**order, "customer": "C9999", "lines": [other, *order["lines"][:-1]]}


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_orders_already_there(
    tables: Sql, tmp_path: Path, on_conflict: Literal["skip", "update"]
) -> None:
    old = orders(30)
    new = [changed(order) for order in old[10:]] + orders(40)[30:]
    staging.load(stage(tmp_path, old))

    counts = staging.load(stage(tmp_path, new, on_conflict))

    if on_conflict == "skip":
        assert counts == Counts(imported=10, skipped=20)
        assert_tables_hold(tables, orders(40))
    else:
        assert counts == Counts(imported=10, updated=20)
        assert_tables_hold(tables, old[:10] + new)


def test_an_order_that_comes_twice_has_its_lines_once(tables: Sql, tmp_path: Path) -> None:
    [order] = orders(1)

    counts = staging.load(stage(tmp_path, [order, changed(order)]))

    assert counts == Counts(imported=1, skipped=1)
    assert_tables_hold(tables, [order])


def test_a_bad_line_rejects_its_order_alone(tables: Sql, tmp_path: Path) -> None:
    found = orders(60)
    found[25]["lines"][0]["quantity"] = "two"

    counts = staging.load(stage(tmp_path, found))

    assert counts == Counts(imported=59, rejected=1)
    assert_tables_hold(tables, found[:25] + found[26:])
    [(path, key)] = tables("SELECT message #>> '{error,path}', message ->> 'user_id' FROM errors")
    assert (path, key) == ("$.lines[0].quantity", str(found[25]["id"]))


def test_a_line_that_its_table_refuses_keeps_its_order_out(tables: Sql, tmp_path: Path) -> None:
    found = orders(60)
    found[25]["lines"][-1]["quantity"] = 77
    tables("ALTER TABLE bookshop.order_lines ADD CONSTRAINT few CHECK (quantity < 50)")

    counts = staging.load(stage(tmp_path, found))

    assert counts == Counts(imported=59, rejected=1)
    assert_tables_hold(tables, found[:25] + found[26:])
    assert tables("SELECT message #>> '{error,path}' FROM errors") == [("few",)]

    tables("ALTER TABLE bookshop.order_lines DROP CONSTRAINT few")
    assert retrying.retry(None) == Counts(imported=1)
    assert_tables_hold(tables, found)


def test_its_migrations_and_the_project_s_leave_each_other_alone(tables: Sql) -> None:
    command.check(CONFIG)
    command.check(Config(PROJECT / "migrations" / "alembic.ini"))

    command.downgrade(CONFIG, "base")
    command.check(Config(PROJECT / "migrations" / "alembic.ini"))
    with pytest.raises(CommandError):
        command.check(CONFIG)
    assert tables.value("SELECT to_regclass('random_users')") == "random_users"


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_each_of_its_tables_tells_what_it_is(tables: Sql, table: str) -> None:
    assert tables.value("SELECT obj_description(%s::regclass)", table)
