"""Where a run was made, and with what."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg

PACKAGES = ("dbos", "sqlalchemy", "psycopg", "msgspec", "dlt", "procrastinate")


def size() -> dict[str, str]:
    """The machine, without its name."""
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def versions(url: str) -> dict[str, str]:
    """Of all that has a part in the figures."""
    with psycopg.connect(url) as connection:
        [(server,)] = connection.execute("SHOW server_version")
    python = {"Python": platform.python_version(), "PostgreSQL": str(server)}
    return python | {package: version(package) for package in PACKAGES}


def commit() -> str:
    """What was measured; with a star when files were changed since."""
    command = ["git", "describe", "--always", "--dirty=*", "--exclude=*"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
