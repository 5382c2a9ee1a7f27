"""A network between a test and its programs that can lose every packet without a word.

A network namespace and a pair of virtual network cards, which root can make; nothing of it leaves
the machine.
"""

import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.programs import Process

CARD = "eth0"
NOBODY = "02:00:00:00:00:01"
"""Address of a network card that does not exist: what is sent there is lost, and no one is told."""

ESTABLISHED = "01"
"""As /proc/net/tcp has it."""


@dataclass(frozen=True)
class Network:
    """`here` is the test's address, `there` that of the programs behind `command`."""

    name: str
    here: str
    there: str

    @property
    def command(self) -> tuple[str, ...]:
        """Words that start the program after them on the other side."""
        return ("ip", "netns", "exec", self.name)

    def lose_packets(self) -> None:
        """From now on all are lost, in both directions, as when a machine loses its power."""
        _ip("neigh", "replace", self.there, "lladdr", NOBODY, "dev", self.name)
        _ip("-n", self.name, "neigh", "replace", self.here, "lladdr", NOBODY, "dev", CARD)

    def deliver_packets(self) -> None:
        _ip("neigh", "del", self.there, "dev", self.name)
        _ip("-n", self.name, "neigh", "del", self.here, "dev", CARD)


@contextmanager
def network() -> Iterator[Network]:
    """Skips the test, loudly, where none can be made."""
    number = os.getpid() % 2**14 * 4  # four addresses to each process that tests
    prefix = f"198.18.{number >> 8}"  # of the block that is kept for tests
    made = Network(
        f"test-{os.getpid()}", f"{prefix}.{number % 256 + 1}", f"{prefix}.{number % 256 + 2}"
    )
    try:
        try:
            _make(made)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            reason = f"DID NOT RUN: no network can be made: {said}".strip()
            warnings.warn(reason, stacklevel=2)
            pytest.skip(reason)
        yield made
    finally:
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("netns", "del", made.name)  # and with it both cards


def _make(network: Network) -> None:
    name = network.name
    _ip("netns", "add", name)
    _ip("link", "add", name, "type", "veth", "peer", "name", CARD, "netns", name)
    _ip("addr", "add", f"{network.here}/30", "dev", name)
    _ip("link", "set", name, "up")
    _ip("-n", name, "addr", "add", f"{network.there}/30", "dev", CARD)
    _ip("-n", name, "link", "set", CARD, "up")


def connections(process: Process) -> list[str]:
    """The TCP connections that the network of a process takes for alive."""
    lines = Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[3] == ESTABLISHED]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
