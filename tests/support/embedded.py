"""An embedded server's processes and files, as the tests of `postgres` look at them."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from tests.support.programs import PROJECT

AS_ROOT = os.geteuid() == 0
NOBODY = 65534

START_AND_STAY = """
import sys
from pathlib import Path
import postgres
print(postgres.ensure_running(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def end(folder: Path) -> None:
    """Stop what a test left, whatever it did to the folder."""
    for process in postmasters(folder):
        process.send_signal(signal.SIGQUIT)
    wait_until(lambda: not postmasters(folder))


def postmasters(folder: Path) -> list[psutil.Process]:
    data = str(folder / "data")
    return [
        process
        for process in psutil.process_iter(["name", "cmdline", "status"])
        if process.info["name"] == "postgres"
        and data in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def pid_file(folder: Path) -> Path:
    return folder / "data" / "postmaster.pid"


def pid_of(folder: Path) -> int:
    return int(pid_file(folder).read_text().splitlines()[0])


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_postmaster(folder: Path) -> None:
    pid = pid_of(folder)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """All processes of the server, by SIGSTOP."""
    postmaster = psutil.Process(pid_of(folder))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            # The server may have ended: another process was told to end it.
            with suppress(psutil.NoSuchProcess):
                process.resume()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def user_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has called ensure_running, and has not connected yet."""
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_STAY, str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
