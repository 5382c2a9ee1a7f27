"""Who may start or stop the server, and who uses it.

Whoever starts or stops the server locks its folder itself; whoever uses it, its file `users`. All
locks are the kernel's: they end with the process that holds them, however it ends.
"""

import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from postgres.accounts import give_to_owner_of
from postgres.errors import PostgresError

POLL_SECONDS = 0.01
TELL_SECONDS = 3.0
"""How often a person who waits is told why."""


@dataclass(frozen=True)
class Patience:
    timeout: float
    on_wait: Callable[[str], None]

    def until(self, done: Callable[[], bool], what: str) -> bool:
        """Poll `done`; False when it did not come true in time."""
        started = time.monotonic()
        next_word = TELL_SECONDS
        while not done():
            waited = time.monotonic() - started
            if waited > self.timeout:
                return False
            if waited > next_word:
                self.on_wait(f"{what}, for {waited:.0f} s now (at most {self.timeout:.0f} s)")
                next_word += TELL_SECONDS
            time.sleep(POLL_SECONDS)
        return True


@contextmanager
def locked(folder: Path, patience: Patience) -> Iterator[None]:
    """Be the only one who starts or stops the server of `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)

    def lock() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        if not patience.until(lock, f"Another process is starting or stopping {folder}"):
            raise PostgresError(
                f"Another process has been starting or stopping PostgreSQL in {folder} for "
                f"{patience.timeout:.0f} s. See which one hangs (`fuser {folder}`), then try again."
            )
        yield
    finally:
        os.close(descriptor)


def users_file(folder: Path) -> int:
    path = folder / "users"
    if not path.exists():
        path.touch(mode=0o600)
        give_to_owner_of(folder, path)
    return _opened(path, path.stat().st_ino)


@functools.cache
def _opened(path: Path, inode: int) -> int:
    """Open `path` once for the life of the process.

    A POSIX lock belongs to the process, which is what is wanted here, and is lost as soon as the
    process closes any descriptor of the file: so there is one, and it stays open.
    """
    return os.open(path, os.O_RDWR)


@contextmanager
def sole_use(folder: Path) -> Iterator[bool]:
    """End this process's use; tell whether no other process uses the server, and keep it so."""
    descriptor = users_file(folder)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except OSError:
        alone = False
    try:
        yield alone
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
