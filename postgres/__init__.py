"""The embedded PostgreSQL: a server of one's own in a folder, with nothing to install.

Any number of processes may share a server, and each may start it, or stop it when nobody else
uses it.
"""

import fcntl
import logging
from collections.abc import Callable
from pathlib import Path

from postgres.accounts import prepare
from postgres.address import DATABASE, database_url, environment, socket_folder
from postgres.errors import PostgresError, explained
from postgres.layout import keep_file
from postgres.locks import Patience, locked, sole_use, users_file
from postgres.postmaster import running_url
from postgres.server import stop_server
from postgres.sessions import ensure_database, has_sessions

__all__ = [
    "DATABASE",
    "PostgresError",
    "ensure_running",
    "environment",
    "keep",
    "running_url",
    "stop",
    "stop_if_unused",
]

START_SECONDS = 120.0

_log = logging.getLogger(__name__)


def ensure_running(
    folder: Path,
    *,
    timeout: float = START_SECONDS,
    on_wait: Callable[[str], None] = _log.warning,
) -> str:
    """Start the server of `folder` unless it runs, and return the URL of its database.

    The cluster and the database are made where they are missing. From here on the calling process
    counts as a user of the server, until it ends or calls `stop_if_unused`. Any number of
    processes may call this at once.

    Args:
        folder: belongs to the server alone, and is made if its place is writable.
        timeout: seconds to wait for another process, and again for a server that recovers.
        on_wait: is told every few seconds what is being waited for.

    Returns:
        A libpq URL that names a Unix socket. There is no password: the socket and the folder are
        open to their owner (and to root) only, so the file system has already asked who it is.

    Raises:
        PostgresError: the server can't be started, or not in time.

    """
    folder = folder.resolve()
    patience = Patience(timeout, on_wait)
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder, patience):
            prepare(folder)
            fcntl.lockf(users_file(folder), fcntl.LOCK_SH)
            ensure_database(folder, patience)
            return database_url(socket_folder(folder))


def keep(folder: Path) -> None:
    """Let the running server stay until `stop`, also when nothing uses it."""
    folder = folder.resolve()
    with explained(folder):
        keep_file(folder).touch()


def stop(folder: Path) -> bool:
    """Stop the server, ending all its sessions; open transactions are rolled back.

    Returns:
        False when it was not running.

    """
    folder = folder.resolve()
    if not folder.is_dir():
        return False
    with explained(folder), locked(folder, Patience(START_SECONDS, _log.warning)):
        return stop_server(folder)


def stop_if_unused(folder: Path, own_sessions: str | None = None) -> bool:
    """Give up the calling process's use of the server, and stop it when that was the last one.

    It stays while another process is between `ensure_running` and its end, while any session is
    open (pgcli's, say, or one that the caller forgot to close), and after `keep`.

    Args:
        folder: as of `ensure_running`.
        own_sessions: application_name of sessions that the caller, about to end, leaves open:
            they don't count.

    Returns:
        True when it was stopped by this call.

    """
    folder = folder.resolve()
    if not folder.is_dir():
        return False
    patience = Patience(START_SECONDS, _log.warning)
    with explained(folder), locked(folder, patience), sole_use(folder) as alone:
        if not alone or keep_file(folder).exists() or running_url(folder) is None:
            return False
        return not has_sessions(folder, own_sessions) and stop_server(folder)
