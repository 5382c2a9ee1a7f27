"""Making the cluster, starting the server and stopping it; the folder's lock is the caller's."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from postgres.accounts import program
from postgres.address import PORT, USER, make_socket_folder, socket_folder, socket_path
from postgres.errors import PostgresError
from postgres.layout import data_folder, keep_file, pid_file, server_log
from postgres.locks import Patience
from postgres.postmaster import (
    live_postmaster,
    recorded_postmaster,
    refuse_if_deleted,
    running_url,
)
from postgres.programs import clean_environment, run

STOP_SECONDS = 60.0


def start_server(folder: Path, patience: Patience) -> None:
    if not data_folder(folder).exists():
        _make_cluster(folder)
    keep_file(folder).unlink(missing_ok=True)
    log = server_log(folder)

    def started() -> bool:
        return running_url(folder) is not None or (
            live_postmaster(folder) is None and _launch(folder, patience)
        )

    if not patience.until(started, f"PostgreSQL in {folder} is recovering"):
        raise PostgresError(
            f"PostgreSQL in {folder} is not ready after {patience.timeout:.0f} s: "
            f"{_gravest(_lines_since(log, 0))}. It may need longer: see {log}, try again."
        )


def _launch(folder: Path, patience: Patience) -> bool:
    """Start the server; False when it has to be tried again, or needs longer.

    Raises:
        PostgresError: it refuses to start.

    """
    _discard_stale_locks(folder)
    log = server_log(folder)
    log_end = log.stat().st_size if log.exists() else 0
    options = ["-p", str(PORT), "-k", str(make_socket_folder(folder))]
    process = subprocess.Popen(
        [
            *program(folder, "pg_ctl"),
            "start",
            *("-w", "-t", str(max(1, int(patience.timeout)))),
            *("-D", str(data_folder(folder))),
            *("-l", str(log)),
            *("-o", shlex.join(options)),
        ],
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patience.until(lambda: process.poll() is not None, f"PostgreSQL in {folder} is starting")
    process.wait()
    if process.returncode == 0:
        return True
    said = _lines_since(log, log_end)
    # After kill -9 of the postmaster its children need a moment to notice.
    if any("is still in use" in line for line in said) or live_postmaster(folder) is not None:
        return False
    raise PostgresError(f"PostgreSQL in {folder} does not start: {_gravest(said)}. See {log}.")


def stop_server(folder: Path) -> bool:
    postmaster = live_postmaster(folder)
    if postmaster is None:
        return False
    result = run(
        [
            *program(folder, "pg_ctl"),
            "stop",
            *("-m", "fast", "-w", "-t", str(int(STOP_SECONDS))),
            *("-D", str(data_folder(folder))),
        ]
    )
    if result.returncode != 0:
        raise PostgresError(
            f"PostgreSQL in {folder} (process {postmaster.pid}) did not stop within "
            f"{STOP_SECONDS:.0f} s. See {server_log(folder)}, or end it with `kill -QUIT "
            f"{postmaster.pid}`."
        )
    if postmaster.socket_folder != folder:
        postmaster.socket_folder.rmdir()
    return True


def _make_cluster(folder: Path) -> None:
    """Make the cluster under another name first, so that it is there whole or not at all."""
    refuse_if_deleted(folder)
    unfinished = folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    result = run(
        [
            *program(folder, "initdb"),
            *("-D", str(unfinished)),
            f"--username={USER}",
            # The folder and the socket let in their owner only: there is nobody left to ask.
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *("--set", "listen_addresses="),
            *("--set", "unix_socket_permissions=0700"),
        ]
    )
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["initdb said nothing"])[-1]
        raise PostgresError(
            f"The PostgreSQL cluster in {folder} can't be made: {reason}. Free space or choose "
            "another folder, then try again."
        )
    unfinished.rename(data_folder(folder))


def _discard_stale_locks(folder: Path) -> None:
    """Remove what a server that is gone has left, if it keeps the next from starting.

    The server takes any live process of its account whose number stands in a lock file for
    another server, and refuses to start. A number that nobody has it sees through alone, and in
    postmaster.pid it should: it then checks the shared memory that this file names.
    """
    import psutil

    lock = socket_path(socket_folder(folder))
    lock.with_name(f"{lock.name}.lock").unlink(missing_ok=True)
    postmaster = recorded_postmaster(folder)
    if postmaster and (postmaster.pid == 0 or psutil.pid_exists(postmaster.pid)):
        pid_file(folder).unlink()


def _lines_since(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _gravest(lines: list[str]) -> str:
    """Return the line of the server's log that says most about a failure."""
    grave = [line for line in lines if re.search(r"\b(FATAL|PANIC):", line)]
    return (grave or lines or ["its log says nothing"])[-1].strip()
