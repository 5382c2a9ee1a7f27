"""Programs as processes of their own: their environment is a test's, and they end with it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import until

PROJECT = Path(__file__).parents[2]
PYTHON = str(Path(sys.executable).parent / "python")
OURS = ("IMPORT_", "POSTGRES_", "PG", "DBOS", "OTEL_", "RANDOMUSER_", "ALEMBIC_", "LOG_LEVEL")


def clean_environment() -> dict[str, str]:
    """The environment of tests without any setting of ours, its Python's folder first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {"PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass(frozen=True)
class Result:
    """How a process ended, and all that it said."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The last line of standard output, decoded."""
        return json.loads(self.stdout.splitlines()[-1])

    def logs(self) -> list[dict[str, Any]]:
        """The JSON lines of standard error; others, such as a message for people, are left out."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Process:
    """A started program, the leader of a process group of its own."""

    command: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdout(self) -> str:
        """What it said so far."""
        return self.out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.err.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def wait(self, timeout: float = 120) -> Result:
        """Its end. Fails when it does not come in time."""
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self}: still runs after {timeout:g} s\n{self.stderr}") from None
        return Result(status, self.stdout, self.stderr)

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Returns when it has said `text`. Fails when it ends without, or is late."""

        def has_said() -> bool:
            has_ended = not self.is_running
            if text in self.stderr or text in self.stdout:
                return True
            assert not has_ended, f"{self} ended without saying {text!r}\n{self.stderr}"
            return False

        until(has_said, f"{self} says {text!r}", timeout)

    def send(self, number: signal.Signals) -> None:
        """A signal to this process alone."""
        self.popen.send_signal(number)

    def interrupt_group(self) -> None:
        """Ctrl-C, as a terminal sends it: to all of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, to this process alone, and its end."""
        self.popen.kill()
        self.popen.wait()

    def end(self) -> None:
        """Kills all of its group that is left."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.popen.wait()

    def __str__(self) -> str:
        return " ".join(self.command)


@dataclass
class Programs:
    """Starts programs in the project's folder; `environment` can be added to until then."""

    folder: Path
    environment: dict[str, str]
    started: list[Process] = field(default_factory=list)

    def spawn(
        self, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = PROJECT
    ) -> Process:
        """Starts a program; it is killed when the test ends."""
        words = tuple(str(word) for word in command)
        number = len(self.started)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                words,
                cwd=cwd,
                env={**self.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        process = Process(words, popen, out, err)
        self.started.append(process)
        return process

    def run(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        cwd: Path = PROJECT,
    ) -> Result:
        """Runs a program to its end, whatever its status."""
        return self.spawn(*command, env=env, cwd=cwd).wait(timeout)

    def end(self) -> None:
        for process in self.started:
            process.end()

    def report(self) -> str:
        """What each program was, how it ended and what it said."""
        return "\n".join(
            f"$ {process}  (status {process.popen.poll()})\n{process.stdout}{process.stderr}"
            for process in self.started
        )


@dataclass(frozen=True)
class Importer:
    """`python integration.py`, by its arguments."""

    programs: Programs

    def run(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> Result:
        return self.programs.run(PYTHON, "integration.py", *arguments, env=env, timeout=timeout)

    def spawn(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Process:
        return self.programs.spawn(PYTHON, "integration.py", *arguments, env=env)
