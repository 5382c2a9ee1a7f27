"""A bookshop's orders: pages chained by cursors, numeric ids, lines in a table of their own.

`GET /orders?limit=100&until=2026-11-30T00:00:00Z` answers with the oldest orders placed before
`until`, and with a cursor, `next`, by which `&after=…` goes on; the last page's is null. Only the
page before tells a cursor, so that pages can't be fetched but one after the other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from sqlalchemy import ARRAY, BigInteger, any_, bindparam, delete, text

import client
import decoding
from client import WrongAnswer
from examples.bookshop.models import OrderLines, Orders
from source import Page, Query, Row, Source

MAX_LIMIT = 100
"""The API refuses to put more orders into a page."""

Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct):
    isbn: str
    title: str
    quantity: Count
    price_cents: Count


class Order(msgspec.Struct):
    """A record of the API. Its lines are still text: decoded alone, a bad one tells its index."""

    id: Id
    placed_at: Timestamp
    customer: str
    currency: str
    lines: list[msgspec.Raw]


class OrderRow(Row, frozen=True):
    """A row of bookshop.orders, and what makes its rows of bookshop.order_lines."""

    placed_at: datetime
    customer: str
    currency: str
    lines: Sequence[Line]


class Answer(msgspec.Struct):
    data: list[msgspec.Raw]
    next: str | None


class Key(msgspec.Struct):
    id: Id


_answers = msgspec.json.Decoder(Answer)
_orders = msgspec.json.Decoder(Order)
_lines = msgspec.json.Decoder(Line)
_keys = msgspec.json.Decoder(Key)

DELETE_LINES = delete(OrderLines).where(
    OrderLines.order_id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
)
INSERT_LINES = text("""
    INSERT INTO bookshop.order_lines (order_id, line, isbn, title, quantity, price_cents)
    SELECT placed.id, line.number, line.isbn, line.title, line.quantity, line.price_cents
    FROM json_to_recordset(CAST(:batch AS json)) AS placed (id bigint, lines json)
    CROSS JOIN ROWS FROM (
        json_to_recordset(placed.lines)
        AS (isbn text, title text, quantity integer, price_cents integer)
    ) WITH ORDINALITY AS line (isbn, title, quantity, price_cents, number)
    WHERE placed.id = ANY(:ids)
""").bindparams(bindparam("ids", type_=ARRAY(BigInteger)))


class Bookshop(Source):
    name = __name__
    model = Orders
    alembic_config = "examples/bookshop/alembic.ini"
    row_type = OrderRow
    url_variable = "BOOKSHOP_URL"
    default_url = "http://127.0.0.1:8765/orders"
    page_size = MAX_LIMIT
    parameters = ("until",)
    first_cursor = "0:"
    details = (DELETE_LINES, INSERT_LINES)

    def pinned(self, query: Query) -> Query:
        """With an end: orders that come in meanwhile are the next import's."""
        until = query.parameters.get("until") or datetime.now(UTC).isoformat(timespec="seconds")
        return Query(query.url, query.count, {**query.parameters, "until": until})

    def fetch(self, query: Query, cursor: str) -> Page:
        """A page by how many orders came before it and the API's cursor, as in `200:bGFzdD0…`."""
        fetched, _, after = cursor.partition(":")
        before = int(fetched)
        limit = MAX_LIMIT if query.count is None else min(MAX_LIMIT, query.count - before)
        asked = {**query.parameters, "limit": str(limit)} | ({"after": after} if after else {})

        def parse(body: bytes) -> Page:
            answer = client.decode(_answers, body, self.name)
            _check_page(answer, limit, after)
            held = before + len(answer.data)
            is_last = answer.next is None or held == query.count
            records = [bytes(record) for record in answer.data]
            return Page(records, None if is_last else f"{held}:{answer.next}", body)

        return client.get(query.url, asked, parse)

    def split(self, body: bytes) -> list[bytes]:
        return [bytes(record) for record in client.decode(_answers, body, self.name).data]

    def without_secrets(self, record: bytes) -> bytes:
        """The record: nothing in an order is secret."""
        return record

    def identify(self, record: bytes) -> int | None:
        key = decoding.decode_if_whole(_keys, record)
        return None if key is None else key.id

    def decode(self, record: bytes) -> OrderRow:
        order = decoding.decode(_orders, record)
        lines = [
            decoding.decode(_lines, bytes(line), f"$.lines[{index}]")
            for index, line in enumerate(order.lines)
        ]
        return OrderRow(order.id, order.placed_at, order.customer, order.currency, lines)


def _check_page(answer: Answer, limit: int, after: str) -> None:
    if len(answer.data) > limit:
        raise WrongAnswer(f"asked for {limit} orders; the API sent {len(answer.data)}")
    if answer.next == after:
        raise WrongAnswer("the page's next page is the page itself")


SOURCE = Bookshop()
