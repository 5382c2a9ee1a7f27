"""Where the server listens: its socket, its URL, and the variables that lead others there."""

import hashlib
import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

from postgres.accounts import give_to_owner_of
from postgres.errors import PostgresError

DATABASE = "integration"
USER = "postgres"
PORT = 5432
"""Names the socket; no network port is opened."""

SHORT_FOLDERS = Path("/tmp")  # noqa: S108 (whose folder it is, is checked)
"""Where sockets go whose own folder is unfit. Not TMPDIR, which differs between processes."""
SOCKET_PATH_BYTES = 103
"""The longest path of a Unix socket on macOS; Linux allows 107."""
FIT_FOR_URL = re.compile(r"[\w./ -]+")
"""libpq and SQLAlchemy split a host at commas and colons, however they are encoded."""


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


def database_url(socket_folder: Path) -> str:
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket_folder))}"


def socket_path(socket_folder: Path) -> Path:
    return socket_folder / f".s.PGSQL.{PORT}"


def socket_folder(folder: Path) -> Path:
    """Return where the socket goes: the same for every process, and fit for a socket's path."""
    fits = len(os.fsencode(socket_path(folder))) <= SOCKET_PATH_BYTES
    if fits and FIT_FOR_URL.fullmatch(str(folder)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return SHORT_FOLDERS.resolve() / f"integration-postgres-{digest}"


def make_socket_folder(folder: Path) -> Path:
    """Make the socket's folder, and see that nobody else has put one there to listen in."""
    place = socket_folder(folder)
    if place == folder:
        return place
    place.mkdir(mode=0o700, exist_ok=True)
    if place.lstat().st_uid == os.geteuid():
        give_to_owner_of(folder, place)
    found = place.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    if not private or found.st_uid != folder.stat().st_uid:
        raise PostgresError(
            f"The path of {folder} is unfit for a socket, and {place}, which would serve, belongs "
            "to somebody else. Remove it, or choose a folder with a shorter, plainer path."
        )
    return place
