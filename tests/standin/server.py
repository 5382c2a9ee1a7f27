"""The stand-in's HTTP server: a thread for each connection, kept alive as the service does."""

import gzip
import json
import socket
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.standin.faults import HTML, JSON, Fault
from tests.standin.query import Query, parse
from tests.standin.rate_limit import RateLimit
from tests.standin.script import Script
from tests.standin.users import VERSION, Page, Users

PATHS = ("/api", "/api/", f"/api/{VERSION}", f"/api/{VERSION}/")


@dataclass(frozen=True)
class Request:
    """What a client asked for, whatever became of it."""

    at: float
    """`time.monotonic()` of its arrival."""

    client: str
    path: str
    parameters: dict[str, str]


class Standin:
    """The service at `url`, from `start` to `stop`, which can follow each other: the port stays."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Users | None = None,
        rate_limit: RateLimit | None = None,
        cached_pages: int = 4,
    ) -> None:
        """Port 0 is a free one. `cached_pages` answers are kept encoded, to be sent again."""
        self._address = (host, port)
        self._users = users or Users()
        self._rate_limit = rate_limit or RateLimit()
        self._script = Script()
        self._requests: list[Request] = []
        self._encoded = lru_cache(cached_pages)(self._encode)
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The pinned version's address. Known once the stand-in was started."""
        host, port = self._address
        return f"http://{host}:{port}/api/{VERSION}/"

    @property
    def requests(self) -> tuple[Request, ...]:
        """All since the beginning, in the order of their arrival."""
        return tuple(self._requests)

    def script(
        self, fault: Fault, *, times: int | None = 1, pages: Collection[int] | None = None
    ) -> None:
        """Answers the next `times` requests (None: all) of these pages (None: all) by a fault.

        Scripted faults wait for one another; they do not count against the rate limit.
        """
        self._script.add(fault, times, pages)

    def clear_script(self) -> None:
        self._script.clear()

    def start(self) -> None:
        """Raises OSError when the port is taken."""
        self._server = _Server(self._address, self)
        self._address = self._server.bound
        threading.Thread(target=self._server.serve, name="standin", daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on, and breaks the open ones."""
        if self._server:
            self._server.stop()
            self._server = None

    def __enter__(self) -> "Standin":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, request: Request, reply: "_Reply") -> None:
        """Answers a client; for the server."""
        self._requests.append(request)
        if request.path not in PATHS:
            reply.send(404, b"Page not found", HTML)
            return
        query = parse(request.parameters)
        fault = self._script.take(query.page)
        if fault:
            reply.close_after()
            fault.answer(query, self._users, reply)
        elif self._rate_limit.allows(request.client, query.results):
            reply.send_encoded(self._encoded(query, reply.takes_gzip))
        else:
            reply.send(429, _too_many(query.results))

    def _encode(self, query: Query, gzipped: bool) -> "_Body":
        return _Body.of(self._users.page(query), gzipped)


@dataclass(frozen=True)
class _Body:
    data: bytes
    gzipped: bool

    @classmethod
    def of(cls, page: Page, gzipped: bool) -> "_Body":
        data = page.encode()
        # Level 1: at loopback's speed, packing harder only takes time.
        return cls(gzip.compress(data, 1, mtime=0) if gzipped else data, gzipped)


def _too_many(users: int) -> bytes:
    text = f"You've asked for too many users; these {users} have to wait for the next 5 minutes."
    return json.dumps({"error": text}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: Standin) -> None:
        super().__init__(address, _Reply)
        self.api = api
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()

    @property
    def bound(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def serve(self) -> None:
        self.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in tuple(self._open):
            with suppress(OSError):  # closed by its client meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for clients that go away: many faults are there to make them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Reply(BaseHTTPRequestHandler):
    """A connection, and the answer to its request at hand (`tests.standin.faults.Reply`)."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "standin"
    sys_version = ""
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        parameters = dict(parse_qsl(address.query, keep_blank_values=True))
        client = self.client_address[0]
        request = Request(time.monotonic(), client, address.path, parameters)
        self.server.api.answer(request, self)

    @property
    def takes_gzip(self) -> bool:
        return "gzip" in self.headers.get("Accept-Encoding", "")

    def send(self, status: int, body: bytes, content_type: str = JSON, **headers: str) -> None:
        self.start(status, content_type, Content_Length=str(len(body)), **headers)
        self.write(body)

    def send_page(self, page: Page) -> None:
        self.send_encoded(_Body.of(page, self.takes_gzip))

    def send_encoded(self, body: _Body) -> None:
        encoding = {"Content_Encoding": "gzip"} if body.gzipped else {}
        self.send(200, body.data, **encoding)

    def start(self, status: int, content_type: str = JSON, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def wait(self, seconds: float) -> bool:
        return not self.server.stopping.wait(seconds)

    def close_after(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing: the stand-in's `requests` tell."""
