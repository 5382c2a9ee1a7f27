"""What can go wrong with an answer: each fault answers in the service's place.

A refused connection is none of these: stop the stand-in.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import repeat
from typing import Protocol

from tests.standin.query import MAX_PAGE, Query
from tests.standin.users import Page, Users

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"

HOUR = 3600.0

MEGABYTE = 1024 * 1024


class Reply(Protocol):
    """The connection that the answer goes to."""

    def send(self, status: int, body: bytes, content_type: str = JSON, **headers: str) -> None:
        """Answers as it should be; `Retry_After` names the header Retry-After."""

    def send_page(self, page: Page) -> None:
        """Answers with users, gzipped where the client takes it."""

    def start(self, status: int, content_type: str = JSON, **headers: str) -> None:
        """Sends the head only. The connection closes after the answer."""

    def write(self, data: bytes) -> None: ...

    def wait(self, seconds: float) -> bool:
        """False when the stand-in was stopped meanwhile."""


class Fault(Protocol):
    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        """Answers `query` wrongly. What it leaves unanswered is closed."""


@dataclass(frozen=True)
class Hang:
    """Accepts the request, sends nothing, and closes in the end."""

    seconds: float = HOUR

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.wait(self.seconds)


@dataclass(frozen=True)
class HangAfterHeader:
    seconds: float = HOUR

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.start(200, Content_Length=str(len(users.page(query).encode())))
        reply.wait(self.seconds)


@dataclass(frozen=True)
class CloseInBody:
    """Closes the connection after a part of the promised body."""

    part: float = 0.5

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        body = users.page(query).encode()
        reply.start(200, Content_Length=str(len(body)))
        reply.write(body[: int(len(body) * self.part)])


@dataclass(frozen=True)
class HtmlError:
    """The page of a proxy in front of the service."""

    status: int = 502

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        title = f"{self.status} Bad Gateway"
        text = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        reply.send(self.status, text.encode(), HTML)


@dataclass(frozen=True)
class JsonError:
    """The service's own word that it failed; it comes with 200, too."""

    status: int = 500

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        text = {"error": "Uh oh, something has gone wrong. Please try again later."}
        reply.send(self.status, json.dumps(text).encode())


@dataclass(frozen=True)
class TooManyRequests:
    """The service sends no Retry-After; proxies may, in seconds."""

    retry_after: int | None = None

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        body = json.dumps({"error": "Too many users in too short a time."}).encode()
        if self.retry_after is None:
            reply.send(429, body)
        else:
            reply.send(429, body, Retry_After=str(self.retry_after))


@dataclass(frozen=True)
class InvalidJson:
    """A whole answer by its length, without its end."""

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.send(200, users.page(query).encode()[:-10])


@dataclass(frozen=True)
class WrongPage:
    """The users of another page, and the answer says so."""

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        other = query.page + 1 if query.page < MAX_PAGE else 1
        reply.send_page(users.page(replace(query, page=other)))


@dataclass(frozen=True)
class WrongSeed:
    """The users of another seed, and the answer says so."""

    seed: str = "0123456789abcdef"

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.send_page(users.page(replace(query, seed=self.seed)))


@dataclass(frozen=True)
class OneUser:
    """What the service does with a number that it does not like."""

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.send_page(users.page(replace(query, results=1)))


@dataclass(frozen=True)
class MoreUsers:
    """More users than asked for, and than the answer says."""

    extra: int = 1

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        more = users.page(replace(query, results=query.results + self.extra))
        reply.send_page(Page(more.users, query))


@dataclass(frozen=True)
class EndlessBody:
    """Users without end, until the client closes."""

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        text = ",".join(users.page(replace(query, results=100)).users)
        reply.start(200)
        reply.write(b'{"results":[')
        for data in repeat(f"{text},".encode()):
            reply.write(data)


@dataclass(frozen=True)
class GzipBomb:
    """A small answer that unpacks to a large one."""

    megabytes: int = 1024

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.send(200, _bomb(self.megabytes), Content_Encoding="gzip")


@dataclass(frozen=True)
class SlowBody:
    """The right answer, spread evenly over `seconds`."""

    seconds: float = 60.0
    pieces: int = 20

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        body = users.page(query).encode()
        reply.start(200, Content_Length=str(len(body)))
        for piece in _pieces(body, self.pieces):
            if not reply.wait(self.seconds / self.pieces):
                return
            reply.write(piece)


@dataclass(frozen=True)
class Drip:
    """The right answer, byte by byte: each in time for a read timeout, the last one in hours."""

    seconds: float = 0.1

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        body = users.page(query).encode()
        reply.start(200, Content_Length=str(len(body)))
        _drip(reply, body, self.seconds)


@dataclass(frozen=True)
class DripHead:
    """A header without end, byte by byte."""

    seconds: float = 0.1

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        _drip(reply, repeat(0x2E), self.seconds)


@dataclass(frozen=True)
class DripGzip:
    """A gzip header whose file name has no end, byte by byte: nothing that could be unpacked."""

    seconds: float = 0.1

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        reply.start(200, Content_Encoding="gzip")
        reply.write(b"\x1f\x8b\x08\x08\0\0\0\0\0\xff")
        _drip(reply, repeat(0x2E), self.seconds)


@dataclass(frozen=True)
class ReplaceUsers:
    """The right page, with some of its users, by their position from 0, replaced by raw text."""

    users: Mapping[int, str] = field(default_factory=lambda: {0: "{}"})

    def answer(self, query: Query, users: Users, reply: Reply) -> None:
        page = users.page(query)
        replaced = [self.users.get(i, user) for i, user in enumerate(page.users)]
        reply.send_page(Page(replaced, query))


BY_NAME: Mapping[str, Fault] = {
    "hang": Hang(),
    "hang-after-header": HangAfterHeader(),
    "close-in-body": CloseInBody(),
    "status-500": HtmlError(500),
    "status-502": HtmlError(502),
    "json-error": JsonError(500),
    "error-in-200": JsonError(200),
    "429": TooManyRequests(),
    "429-retry-after": TooManyRequests(1),
    "invalid-json": InvalidJson(),
    "wrong-page": WrongPage(),
    "wrong-seed": WrongSeed(),
    "one-user": OneUser(),
    "more-users": MoreUsers(),
    "endless-body": EndlessBody(),
    "gzip-bomb": GzipBomb(),
    "slow-body": SlowBody(),
    "drip": Drip(),
    "drip-head": DripHead(),
    "drip-gzip": DripGzip(),
    "broken-user": ReplaceUsers(),
}
"""For the command line."""


@cache
def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    blank = b" " * MEGABYTE
    parts = [packer.compress(b'{"results":[')]
    parts += [packer.compress(blank) for _ in range(megabytes)]
    return b"".join(parts) + packer.flush()


def _drip(reply: Reply, data: Iterable[int], seconds: float) -> None:
    for byte in data:
        if not reply.wait(seconds):
            return
        reply.write(bytes([byte]))


def _pieces(body: bytes, count: int) -> Iterator[bytes]:
    size = -(-len(body) // count)
    return (body[start : start + size] for start in range(0, len(body), size))
