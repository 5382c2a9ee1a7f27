"""No space left: for the cache, and for PostgreSQL. On small file systems, which root can mount."""

import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

import postgres
from tests.standin import Standin
from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    assert_exactly_once,
    loaded_chunks,
    write_users,
)
from tests.support.programs import Importer
from tests.support.waiting import until

CLUSTER_MEGABYTES = 110
"""A new cluster, migrated, and room for what it recycles."""


@contextmanager
def small_file_system(megabytes: int) -> Iterator[Path]:
    """A file system in memory. Skips the test, loudly, where none can be mounted."""
    place = Path(tempfile.mkdtemp(prefix="small-"))
    options = f"size={megabytes}m,mode=755"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False, text=True)
    if mounted.returncode != 0:
        place.rmdir()
        reason = f"DID NOT RUN: no small file system can be mounted: {mounted.stderr.strip()}"
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def fill(place: Path) -> Path:
    """A file that takes all the space that is left."""
    ballast = place / "ballast"
    block = bytes(64 * 1024)
    # Bit by bit: whoever writes there meanwhile takes some of it.
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(block)
    return ballast


def test_cache_that_does_not_fit_is_left_as_it_was(
    importer: Importer, sql: Sql, api: Standin
) -> None:
    with small_file_system(1) as place:
        cache = place / "data.json"
        cache.write_bytes(b"before")
        fetch = ("import", "--count", "5000", "--refresh")
        result = importer.run(*fetch, env={"IMPORT_CACHE": str(cache)})

        assert result.status == 0
        assert "No space left on device" in result.stderr
        assert cache.read_bytes() == b"before"
        assert list(place.iterdir()) == [cache]
    assert sql.value("SELECT count(*) FROM random_users") == 5_000


def has_died_of_it(sql: Sql, folder: Path) -> bool:
    """Lets it fill another segment of its log, for which there is no space."""
    with suppress(psycopg.OperationalError):
        sql("SELECT pg_logical_emit_message(true, '', 'x'), pg_switch_wal()")
    return postgres.running_url(folder) is None


def test_full_disk_of_postgresql_is_waited_for(importer: Importer, tmp_path: Path) -> None:
    file = write_users(tmp_path)
    with small_file_system(CLUSTER_MEGABYTES) as place:
        folder = place / "s"
        importer.programs.environment |= {"POSTGRES_URL": "", "POSTGRES_FOLDER": str(folder)}
        assert importer.run("migrate").status == 0
        sql = Sql(postgres.ensure_running(folder))
        try:
            starter = importer.spawn("import", "--input", file.path, *SMALL_CHUNKS, "--json")
            until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
            ballast = fill(place)
            starter.wait_for("No space left on device")
            assert '"waiting": true' in starter.stderr
            until(lambda: has_died_of_it(sql, folder), "the server dies")
            assert starter.is_running
            ballast.unlink()
            assert starter.wait().status == 3
            assert_exactly_once(Sql(postgres.ensure_running(folder)), file)
        finally:
            importer.programs.end()
            postgres.stop(folder)
