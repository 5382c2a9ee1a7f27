"""A TCP proxy that breaks what passes through it, in front of PostgreSQL or any other server."""

import select
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

Upstream = Path | tuple[str, int]
"""Where the server listens: a Unix socket, or a host and a port."""

LOOPBACK = "127.0.0.1"
RECEIVE_BYTES = 64 * 1024
REMEMBERED_BYTES = 256 * 1024
"""Of what a client said, to find the words of a `Cut` in."""

LOOK_SECONDS = 0.02
"""How often a connection looks whether it was cut or let go on."""


class Moment(Enum):
    """When a connection is cut at a message of its client's."""

    BEFORE_DELIVERY = auto()
    BEFORE_ANSWER = auto()
    """The server got the message and has begun to answer: the client is never told."""


@dataclass(frozen=True)
class Cut:
    """Cuts a connection whose client has sent these words, in this order, at the last of them."""

    words: Sequence[bytes]
    moment: Moment


class Proxy:
    """Listens on a free port of loopback, which it keeps when it refuses and accepts again."""

    def __init__(self, upstream: Upstream, host: str = LOOPBACK) -> None:
        self.cuts = 0
        """Connections that a scripted `Cut` has cut."""
        self._upstream = upstream
        self._address = (host, 0)
        self._listener: socket.socket | None = None
        self._script: list[Cut] = []
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self._forwarding = threading.Event()
        self._forwarding.set()

    @property
    def host(self) -> str:
        return self._address[0]

    @property
    def port(self) -> int:
        return self._address[1]

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.forward()
        self.refuse()

    def accept(self) -> None:
        """Takes connections, from the beginning or again."""
        listener = socket.create_server(self._address, backlog=128)
        self._address = (self.host, listener.getsockname()[1])
        self._listener = listener
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()

    def refuse(self) -> None:
        """Cuts every connection and refuses new ones, as a server that is away."""
        if self._listener is not None:
            # Wakes the thread that accepts, which close alone would not.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> int:
        """Cuts every connection, and takes new ones; returns how many it has cut."""
        with self._lock:
            for connection in self._connections:
                connection.is_cut.set()
            return len(self._connections)

    def black_hole(self) -> None:
        """Delivers nothing more, in either direction, and closes nothing: a dead network."""
        self._forwarding.clear()

    def forward(self) -> None:
        """Ends `black_hole`; what was held back is delivered."""
        self._forwarding.set()

    def script(self, cut: Cut, *, times: int = 1) -> None:
        """Cuts the next `times` connections that come to the place."""
        with self._lock:
            self._script += [cut] * times

    def take_cut(self, said: bytes, new: int) -> Cut | None:
        """The cut whose last word is in the `new` last bytes of what a client said, used up."""
        with self._lock:
            for cut in self._script:
                if _comes_to(cut, said, new):
                    self._script.remove(cut)
                    self.cuts += 1
                    return cut
        return None

    def is_forwarding(self) -> bool:
        return self._forwarding.is_set()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed by `refuse`
                return
            connection = _Connection(self, client)
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._forward, args=[connection], daemon=True).start()

    def _forward(self, connection: "_Connection") -> None:
        connection.serve(self._upstream)
        with self._lock:
            self._connections.remove(connection)


class PostgresProxy(Proxy):
    """In front of a server that listens on a Unix socket; `url` is the database through it."""

    def __init__(self, database_url: str, host: str = LOOPBACK) -> None:
        self._database = make_url(database_url)
        folder = self._database.query["host"]
        super().__init__(Path(str(folder)) / ".s.PGSQL.5432", host)

    @property
    def url(self) -> str:
        through = self._database.set(host=self.host, port=self.port, query={})
        return through.render_as_string(hide_password=False)


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.is_cut = threading.Event()
        self._proxy = proxy
        self._client = client
        self._said = b""

    def serve(self, upstream: Upstream) -> None:
        with self._client as client:
            try:
                with _connect(upstream) as server:
                    self._pump(client, server)
            except OSError:  # either side went away, as it may
                pass
            finally:
                # A reset instead of a farewell: that is how a cable is cut.
                with suppress(OSError):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        withhold_answer = False
        while not self.is_cut.is_set():
            if not self._proxy.is_forwarding():
                self.is_cut.wait(LOOK_SECONDS)
                continue
            readable, _, _ = select.select([client, server], [], [], LOOK_SECONDS)
            if not self._proxy.is_forwarding():
                continue
            for end in readable:
                data = end.recv(RECEIVE_BYTES)
                if not data or (end is server and withhold_answer):
                    return
                if end is server:
                    client.sendall(data)
                    continue
                cut = self._heard(data)
                if cut is not None and cut.moment is Moment.BEFORE_DELIVERY:
                    return
                withhold_answer = cut is not None
                server.sendall(data)

    def _heard(self, data: bytes) -> Cut | None:
        self._said = (self._said + data)[-REMEMBERED_BYTES:]
        return self._proxy.take_cut(self._said, len(data))


def _comes_to(cut: Cut, said: bytes, new: int) -> bool:
    *before, last = cut.words
    end = said.rfind(last)
    if end + len(last) <= len(said) - new or end < 0:
        return False
    place = 0
    for word in before:
        place = said.find(word, place, end) + len(word)
        if place < len(word):
            return False
    return True


def _connect(upstream: Upstream) -> socket.socket:
    if not isinstance(upstream, Path):
        return socket.create_connection(upstream)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(str(upstream))
    return server
