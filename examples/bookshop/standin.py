"""Stands in for the bookshop: real HTTP on loopback, orders made up of their numbers.

Example: python -m examples.bookshop.standin --orders 300
"""

import base64
import json
import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer

MAX_LIMIT = 100
OPENING = datetime(2020, 1, 1, 9, tzinfo=UTC)
FIRST_ID = 9_000_000_000
"""Ids that need a bigint."""

TITLES = ("Dune", "Emma", "Kim", "Beloved", "Ulysses", "Middlemarch")

Order = Mapping[str, Any]
Answer = Callable[[Sequence[Order], Mapping[str, str]], Mapping[str, Any]]


class BadRequest(Exception):
    """The request is refused: the message says why."""


def make_order(number: int) -> dict[str, Any]:
    """The order of a number, from 0: always the same."""
    dice = random.Random(number)
    return {
        "id": FIRST_ID + number,
        "placed_at": (OPENING + timedelta(minutes=number)).isoformat(),
        "customer": f"C{dice.randrange(10_000):04}",
        "currency": dice.choice(("EUR", "USD", "GBP")),
        "lines": [_make_line(dice) for _ in range(dice.randint(1, 4))],
    }


def answer(orders: Sequence[Order], parameters: Mapping[str, str]) -> dict[str, Any]:
    """The page that is asked for. Raises BadRequest."""
    limit = parameters.get("limit", str(MAX_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
        raise BadRequest(f"limit is 1 to {MAX_LIMIT}")
    begin = _position(parameters.get("after"), orders)
    placed = _placed_before(parameters.get("until"), orders)
    page = placed[begin : begin + int(limit)]
    end = begin + len(page)
    return {"data": page, "next": _cursor(end, page[-1]) if end < len(placed) else None}


def _placed_before(until: str | None, orders: Sequence[Order]) -> Sequence[Order]:
    if until is None:
        return orders
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        raise BadRequest("until is no date and time") from None
    return [one for one in orders if datetime.fromisoformat(one["placed_at"]) < end]


def _cursor(position: int, last: Order) -> str:
    """Opaque to clients, and of the order that was sent last: nobody makes one up."""
    return base64.urlsafe_b64encode(f"{position}/{last['id']}".encode()).decode()


def _position(cursor: str | None, orders: Sequence[Order]) -> int:
    if cursor is None:
        return 0
    try:
        position = int(base64.urlsafe_b64decode(cursor).decode().partition("/")[0])
    except ValueError:
        position = 0
    if not 0 < position <= len(orders) or _cursor(position, orders[position - 1]) != cursor:
        raise BadRequest("after is no cursor of ours")
    return position


def _make_line(dice: random.Random) -> dict[str, Any]:
    return {
        "isbn": f"978{dice.randrange(10**10):010}",
        "title": dice.choice(TITLES),
        "quantity": dice.randint(1, 3),
        "price_cents": dice.randrange(500, 5_000),
    }


class Bookshop:
    """The API at `url`, within a `with` block."""

    def __init__(self, orders: Sequence[Order], port: int = 0, answer: Answer = answer) -> None:
        """Port 0 is a free one; another `answer` makes another API. Raises OSError when the port
        is taken.
        """
        self.requests: list[Mapping[str, str]] = []
        """The parameters of each, in the order of arrival."""
        handler = partial(_Reply, partial(answer, orders), self.requests)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/orders"

    def __enter__(self) -> "Bookshop":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Reply(BaseHTTPRequestHandler):
    def __init__(
        self,
        answer: Callable[[Mapping[str, str]], Mapping[str, Any]],
        requests: list[Mapping[str, str]],
        *connection: Any,
    ) -> None:
        self._answer = answer
        self._requests = requests
        super().__init__(*connection)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path != "/orders":
            self._send(HTTPStatus.NOT_FOUND, {"error": "there are /orders only"})
            return
        parameters = dict(parse_qsl(address.query))
        self._requests.append(parameters)
        try:
            self._send(HTTPStatus.OK, self._answer(parameters))
        except BadRequest as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _send(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Nothing: `requests` tell."""


def main(
    orders: Annotated[int, typer.Option(min=0, help="How many there are.")] = 300,
    port: Annotated[int, typer.Option(help="0 for a free one.")] = 8765,
) -> None:
    """Serve orders until SIGTERM or SIGINT; the first line printed is the address."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        bookshop = Bookshop([make_order(number) for number in range(orders)], port)
    except OSError as error:
        raise typer.BadParameter(
            f"{port}: {error.strerror}; name another, and BOOKSHOP_URL to match",
            param_hint="--port",
        ) from None
    with bookshop:
        print(bookshop.url, flush=True)
        stopped.wait()


if __name__ == "__main__":
    typer.run(main)
