"""The processes that work at a round's import: started, hurt, and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from settings import PROJECT_FOLDER

Role = Literal["starter", "worker"]

COMPLETE = (0, 3)
"""How a starter ends when its import is complete, with or without rejects."""

RESTART_SECONDS = 1.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Ending:
    """A process that ended although nobody told it to, and before its import was complete."""

    member: str
    status: int
    seconds: float
    """How long it had run."""
    last_words: str


@dataclass
class Member:
    """One process, over and over: whatever ends it, it is due to start again, until it is done."""

    role: Role
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    due: float = 0.0
    done: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    continued_at: float | None = None
    told_to_end: bool = False
    endings: list[Ending] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_paused(self) -> bool:
        return self.continued_at is not None

    def tend(self) -> None:
        """Notices an end, and starts or wakes the process when that is due."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self._note_end(self.process.returncode)
        if self.continued_at is not None and now >= self.continued_at:
            self.wake()
        if self.process is None and not self.done and now >= self.due:
            self._start()

    def kill(self, away_seconds: float) -> None:
        self._end(signal.SIGKILL, away_seconds)

    def terminate(self, away_seconds: float) -> None:
        self._end(signal.SIGTERM, away_seconds)

    def pause(self, seconds: float) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            self.continued_at = time.monotonic() + seconds

    def wake(self) -> None:
        self.continued_at = None
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "")[-500:]

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "integration.py", *self.command],
                cwd=PROJECT_FOLDER,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started_at = time.monotonic()
        self.told_to_end = False

    def _end(self, number: signal.Signals, away_seconds: float) -> None:
        if self.process is None:
            return
        self.told_to_end = True
        self.due = time.monotonic() + away_seconds
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()
            self.continued_at = None

    def _note_end(self, status: int) -> None:
        self.process, self.continued_at = None, None
        if self.role == "starter" and status in COMPLETE:
            self.done = True
        elif not self.told_to_end:
            lived = time.monotonic() - self.started_at
            self.endings.append(Ending(self.name, status, lived, self.last_words()))
            self.due = time.monotonic() + RESTART_SECONDS


class Crew:
    """A round's starters and workers. On leaving, none of them is left."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill(0)
            member.done = True

    def add(self, role: Role, command: Sequence[str]) -> None:
        name = f"{role}-{len(self.members) + 1}"
        log = self._folder / f"{name}.log"
        self.members.append(Member(role, name, command, self._environment, log))

    def tend(self) -> None:
        for member in self.members:
            member.tend()

    def living(self, role: Role | None = None) -> list[Member]:
        """Those that run and are not paused."""
        return [
            member
            for member in self.members
            if member.is_alive and not member.is_paused and role in (None, member.role)
        ]

    @property
    def starters(self) -> list[Member]:
        return [member for member in self.members if member.role == "starter"]

    @property
    def youngest_age(self) -> float:
        """Seconds since a process was started last."""
        return time.monotonic() - max(member.started_at for member in self.members)

    @property
    def endings(self) -> list[Ending]:
        return [ending for member in self.members for ending in member.endings]

    def stop(self) -> list[Member]:
        """Tells all to end as an operator does; returns those that did not, which are killed."""
        for member in self.members:
            member.done = True
            if member.is_alive:
                member.terminate(0)
        deadline = time.monotonic() + STOP_SECONDS
        stubborn = []
        for member in self.members:
            if member.process is None:
                continue
            with suppress(subprocess.TimeoutExpired):
                member.process.wait(max(0.0, deadline - time.monotonic()))
            if member.is_alive:
                stubborn.append(member)
                member.kill(0)
        return stubborn


def environment(folder: Path, postgres_folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """What the processes are given: nothing of the caller's own settings of the importer."""
    foreign = ("IMPORT_", "POSTGRES_", "RANDOMUSER_", "OTEL_", "PG", "DBOS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **kept,
        "POSTGRES_FOLDER": str(postgres_folder),
        "IMPORT_CACHE": str(folder / "cache.json"),
        "IMPORT_PATIENCE": "60",
        **more,
    }
