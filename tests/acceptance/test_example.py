"""The bookshop of `examples/` by the same commands, with the same guarantees."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.bookshop.standin import Bookshop
from tests.support.bookshop import (
    ALEMBIC_CONFIG,
    Order,
    assert_tables_hold,
    orders,
    write_orders,
)
from tests.support.databases import Sql
from tests.support.exactly_once import SMALL_CHUNKS, is_complete, loaded_chunks
from tests.support.programs import PYTHON, Importer, Programs
from tests.support.waiting import until

ORDERS = 1_000


@pytest.fixture
def source(programs: Programs) -> None:
    programs.environment["IMPORT_SOURCE"] = "examples.bookshop.orders"


@pytest.fixture
def tables(source: None, programs: Programs) -> None:
    result = programs.run(
        Path(PYTHON).with_name("alembic"), "-c", ALEMBIC_CONFIG, "upgrade", "head"
    )
    assert result.status == 0, result.stderr


@pytest.fixture
def bookshop(programs: Programs) -> Iterator[Bookshop]:
    with Bookshop(orders(ORDERS)) as running:
        programs.environment["BOOKSHOP_URL"] = running.url
        yield running


@pytest.mark.usefixtures("source", "bookshop")
def test_says_how_to_make_its_tables(
    importer: Importer, programs: Programs, sql: Sql, cache: Path
) -> None:
    users = cache.read_bytes()
    refused = importer.run("import", "--count", "10")

    assert refused.status == 1
    told = refused.stderr.strip().splitlines()[-1]
    assert "bookshop.orders is not there" in told
    command = told.split("`")[1]
    assert sql("SELECT * FROM imports") == []

    programs.run("sh", "-c", command)
    assert importer.run("import", "--count", "10").status == 0
    assert_tables_hold(sql, orders(10))
    assert cache.read_bytes() == users


@pytest.mark.usefixtures("tables")
def test_a_bookshop_without_orders_is_imported(importer: Importer, programs: Programs) -> None:
    with Bookshop([]) as empty:
        programs.environment["BOOKSHOP_URL"] = empty.url
        result = importer.run("import", "--json")

    assert result.status == 0
    assert (result.json()["status"], result.json()["users"]) == ("complete", 0)


@pytest.mark.usefixtures("tables", "bookshop")
def test_parameters_are_the_source_s_own(importer: Importer, sql: Sql) -> None:
    end = f"until={orders(31)[30]['placed_at']}"

    assert importer.run("import", "--parameter", end).status == 0
    assert_tables_hold(sql, orders(30))
    again = importer.run("import", "--parameter", end)
    assert "complete already" in again.stderr
    for foreign in (("--nat", "fr"), ("--parameter", "page=2"), ("--parameter", "until")):
        assert importer.run("import", *foreign).status == 2


@pytest.mark.usefixtures("tables", "bookshop")
@pytest.mark.parametrize("rescuer", ["the same command", "a worker"])
def test_killed_halfway_and_gone_on_with(importer: Importer, sql: Sql, rescuer: str) -> None:
    killed = importer.spawn("import", *SMALL_CHUNKS)
    until(lambda: loaded_chunks(sql) > 3, "some chunks are loaded")
    killed.kill()
    assert loaded_chunks(sql) < ORDERS / 25

    if rescuer == "a worker":
        importer.spawn("worker")
        until(lambda: is_complete(sql), "the worker completes the import", 120)
    else:
        assert importer.run("import", *SMALL_CHUNKS, timeout=120).status == 0

    assert_tables_hold(sql, orders(ORDERS))
    [totals] = sql("SELECT state, users, imported, skipped, rejected FROM imports")
    assert totals == ("complete", ORDERS, ORDERS, 0, 0)
    assert sql("SELECT * FROM staged_pages") == []


@pytest.mark.usefixtures("tables")
def test_rejected_orders_are_shown_mended_and_retried(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    found = orders(50)
    good = found[7]["lines"][0]["quantity"]
    found[7]["lines"][0]["quantity"] = "two"
    path = write_orders(tmp_path / "orders.jsonl", found)

    checked = importer.run("check", path)
    assert (checked.status, "$.lines[0].quantity" in checked.stdout) == (3, True)
    assert importer.run("import", "--input", path).status == 3
    told = importer.run("errors", "--jsonl").json()
    assert told["error"]["path"] == "$.lines[0].quantity"

    record: Order = told["record"]
    record["lines"][0]["quantity"] = good
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(told) + "\n")
    assert importer.run("retry", "--input", mended).status == 0
    assert_tables_hold(sql, orders(50))
