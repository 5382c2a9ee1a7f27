"""Where in a server's folder is what.

A folder that holds a server looks like this::

    data/           the cluster
    log             what the server said
    users           locked, shared, by every process that uses the server
    keep            there while the server stays until it is stopped by hand
    .s.PGSQL.5432   the socket, unless the folder's path is too long for one
"""

from pathlib import Path


def data_folder(folder: Path) -> Path:
    return folder / "data"


def server_log(folder: Path) -> Path:
    return folder / "log"


def keep_file(folder: Path) -> Path:
    return folder / "keep"


def pid_file(folder: Path) -> Path:
    return data_folder(folder) / "postmaster.pid"
