"""Orders of the example's bookshop, its tables in a test's database, and what has to be in them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from examples.bookshop.standin import make_order
from tests.support.databases import Sql

Order = dict[str, Any]

ALEMBIC_CONFIG = "examples/bookshop/alembic.ini"


def orders(count: int) -> list[Order]:
    """The first ones, to be changed at will."""
    return [make_order(number) for number in range(count)]


def write_orders(path: Path, found: Iterable[Order]) -> Path:
    """A .jsonl of these orders."""
    path.write_text("".join(json.dumps(order) + "\n" for order in found))
    return path


def assert_tables_hold(sql: Sql, expected: Sequence[Order]) -> None:
    """These orders with these lines, and nothing else."""
    held = sql("SELECT id, placed_at, customer, currency FROM bookshop.orders ORDER BY id")
    assert held == [_row(order) for order in _by_id(expected)]
    lines = sql(
        "SELECT order_id, line, isbn, title, quantity, price_cents"
        " FROM bookshop.order_lines ORDER BY order_id, line"
    )
    assert lines == [line for order in _by_id(expected) for line in _lines(order)]


def _by_id(found: Sequence[Order]) -> list[Order]:
    return sorted(found, key=lambda order: int(order["id"]))


def _row(order: Mapping[str, Any]) -> tuple[Any, ...]:
    placed_at = datetime.fromisoformat(order["placed_at"])
    return (order["id"], placed_at, order["customer"], order["currency"])


def _lines(order: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (order["id"], number, line["isbn"], line["title"], line["quantity"], line["price_cents"])
        for number, line in enumerate(order["lines"], 1)
    ]
