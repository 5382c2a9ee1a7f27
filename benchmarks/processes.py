"""Programs as processes of their own, with what they took: time, memory, their last words."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
PYTHON = sys.executable
SETTINGS = ("IMPORT_", "POSTGRES_", "PG", "DBOS", "OTEL_", "RANDOMUSER_", "LOG_LEVEL")
LOOK_SECONDS = 0.01

Environment = Mapping[str, str]


class Failed(Exception):
    """A program ended otherwise than it should; the message holds what it said."""


@dataclass(frozen=True)
class Usage:
    """What a process took, from its start to its end."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of all its threads; PostgreSQL's part is not in it."""
    peak_mb: float
    """The largest resident set, in MiB, as the kernel counts it."""


@dataclass(frozen=True)
class Outcome:
    usage: Usage
    report: dict[str, Any]
    """The last line of its standard output."""


@dataclass(frozen=True)
class Program:
    """A running program."""

    popen: "subprocess.Popen[bytes]"
    began: float
    out: Path
    err: Path

    def wait_for(self, words: str) -> None:
        """Returns when it has said these on standard error. Raises Failed when it ends without."""
        while words not in self.err.read_text():
            self._look()

    def first_line(self) -> str:
        """The first line of its standard output, once it is there. Raises Failed."""
        while "\n" not in (said := self.out.read_text()):
            self._look()
        return said.splitlines()[0]

    def stop(self) -> Outcome:
        """Tells it to stop, and waits for its end. Raises Failed."""
        self.popen.send_signal(signal.SIGTERM)
        return self.end([0])

    def end(self, statuses: Sequence[int]) -> Outcome:
        """Waits for its end. Raises Failed when its exit status is none of `statuses`."""
        usage, status = self._reap()
        if status not in statuses:
            raise Failed(
                f"{self.popen.args!r} ended with status {status}\n{self.err.read_text()[-2000:]}"
            )
        lines = self.out.read_text().splitlines()
        is_json = lines and lines[-1].startswith("{")
        return Outcome(usage, json.loads(lines[-1]) if is_json else {})

    def kill(self) -> None:
        """Ends it at once, where it still runs."""
        if self.popen.returncode is None:
            self.popen.kill()
            self.popen.wait()

    def _look(self) -> None:
        if self.popen.poll() is not None:
            raise Failed(f"{self.popen.args!r} has ended\n{self.err.read_text()[-2000:]}")
        time.sleep(LOOK_SECONDS)

    def _reap(self) -> tuple[Usage, int]:
        _, status, used = os.wait4(self.popen.pid, 0)
        seconds = time.perf_counter() - self.began
        self.popen.returncode = os.waitstatus_to_exitcode(status)
        return (
            Usage(seconds, used.ru_utime + used.ru_stime, _mebibytes(used)),
            self.popen.returncode,
        )


@dataclass
class Programs:
    """Starts programs with a clean environment; `folder` keeps what they say."""

    folder: Path
    number: int = 0

    def start(self, command: Sequence[str], environment: Environment) -> Program:
        """Starts a Python program of the project."""
        self.number += 1
        out, err = self.folder / f"{self.number}.out", self.folder / f"{self.number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            began = time.perf_counter()
            popen = subprocess.Popen(
                [PYTHON, *command],
                cwd=PROJECT,
                env={**_clean_environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return Program(popen, began, out, err)

    def run(
        self, command: Sequence[str], environment: Environment, statuses: Sequence[int] = (0,)
    ) -> Outcome:
        """Runs a program to its end. Raises Failed."""
        program = self.start(command, environment)
        try:
            return program.end(statuses)
        finally:
            program.kill()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}


def _mebibytes(used: resource.struct_rusage) -> float:
    # Linux counts in KiB, macOS in bytes.
    return used.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
