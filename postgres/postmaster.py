"""The server's process: what its files say of it, and whether that is true."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from postgres.address import database_url, socket_path
from postgres.errors import PostgresError, explained
from postgres.layout import data_folder, pid_file


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says, which may be stale."""

    pid: int
    data: Path
    socket_folder: Path
    ready: bool


def running_url(folder: Path) -> str | None:
    """Return the URL of the server's database, or None while no server takes connections.

    Neither starts the server nor counts as using it.

    Raises:
        PostgresError: `folder` was moved or copied while its server ran.

    """
    folder = folder.resolve()
    with explained(folder):
        postmaster = recorded_postmaster(folder)
        if postmaster is None:
            return None
        if postmaster.data != data_folder(folder):
            _refuse_if_alive_elsewhere(folder, postmaster)
            return None
        return database_url(postmaster.socket_folder) if _accepts(postmaster) else None


def recorded_postmaster(folder: Path) -> Postmaster | None:
    try:
        text = os.fsdecode(pid_file(folder).read_bytes())
    except FileNotFoundError:
        return None
    # The server adds lines as it starts, and a full disk may have left none at all.
    pid, data, _, _, socket_folder, _, _, status = (text.splitlines() + [""] * 8)[:8]
    return Postmaster(
        pid=int(pid or 0),
        data=Path(data),
        socket_folder=Path(socket_folder),
        ready=status.strip() == "ready",
    )


def live_postmaster(folder: Path) -> Postmaster | None:
    """Return the server's process also while it does not take connections."""
    postmaster = recorded_postmaster(folder)
    if postmaster is None or not _is_alive(folder, postmaster):
        return None
    _refuse_if_alive_elsewhere(folder, postmaster)
    return postmaster


def refuse_if_deleted(folder: Path) -> None:
    """Look for a server whose files are gone: when it ends, it removes its successor's socket."""
    import psutil

    for process in psutil.process_iter(["name", "cmdline"]):
        arguments = process.info["cmdline"] or []  # a zombie has none
        if process.info["name"] == "postgres" and str(data_folder(folder)) in arguments:
            raise PostgresError(
                f"{data_folder(folder)} was deleted or moved while its server (process "
                f"{process.pid}) ran. Stop it with `kill -INT {process.pid}`, then try again."
            )


def _accepts(postmaster: Postmaster) -> bool:
    """Whether it takes connections: after kill -9 its files stay, but nobody listens."""
    if not postmaster.ready:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(socket_path(postmaster.socket_folder)))
        except OSError:
            return False
    return True


def _is_alive(folder: Path, postmaster: Postmaster) -> bool:
    """Whether the process is this server, and not another that was given its number since."""
    import psutil

    try:
        works_in = Path(psutil.Process(postmaster.pid).cwd())
    except (psutil.Error, ValueError):
        return False
    return works_in in (postmaster.data, data_folder(folder))


def _refuse_if_alive_elsewhere(folder: Path, postmaster: Postmaster) -> None:
    if postmaster.data != data_folder(folder) and _is_alive(folder, postmaster):
        raise PostgresError(
            f"{folder} was moved or copied while its server (process {postmaster.pid}) ran in "
            f"{postmaster.data.parent}. Stop it with `kill -INT {postmaster.pid}`, then try again."
        )
