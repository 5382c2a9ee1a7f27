"""What can't be imported is refused in a line or two, with what to do, and nothing is lost."""

import gzip
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.standin import Standin
from tests.support.databases import Sql
from tests.support.programs import Importer, Result
from tests.support.users import User, answer_of, encode, lines_of, users, with_value, without


def assert_refused(result: Result, status: int, *words: str) -> None:
    """Told in a line or two, without a traceback."""
    told = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert result.status == status, result.stderr
    assert "Traceback" not in result.stderr
    assert status == 2 or len(told) <= 2, told
    for word in words:
        assert word in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.json", None, ("missing.json", "No such file")),
        ("empty.json", b"", ("empty.json", "no valid JSON")),
        ("empty.jsonl", b"", ("empty.jsonl", "holds no records")),
        ("torn.json", answer_of(users(2))[:-50], ("torn.json", "truncated")),
        ("torn.json.gz", gzip.compress(answer_of(users(20)))[:-20], ("torn.json.gz", "can't be")),
        ("broken.json", b'{"results":[{"a":1},}', ("broken.json", "byte 20")),
        ("text.json", b"Hello", ("text.json", "byte 0")),
        ("other.json", b'{"users":[]}', ("other.json", "`results`")),
        ("error.json", b'{"error":"Uh oh"}', ("error.json", "Uh oh")),
        ("folder.json", "folder", ("folder.json", "directory")),
    ],
)
def test_a_file_that_is_no_input(
    importer: Importer, sql: Sql, tmp_path: Path, name: str, content: bytes | str | None, words: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()

    assert_refused(importer.run("import", "--input", path), 1, *words)
    assert sql.value("SELECT count(*) FROM imports") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--count", "0"), ("--count",)),
        (("--count", "-5"), ("--count",)),
        (("--count", "many"), ("--count",)),
        (("--batch-size", "0"), ("--batch-size",)),
        (("--chunk-size", "0"), ("--chunk-size",)),
        (("--batch-size", "20", "--chunk-size", "10"), ("--batch-size 20", "--chunk-size 10")),
        (("--on-conflict", "ignore"), ("--on-conflict", "skip", "update")),
        (("--colour",), ("--colour",)),
    ],
)
def test_a_wrong_option(
    importer: Importer, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(importer.run("import", *arguments, env={"COLUMNS": "200"}), 2, *words)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Bound, but not listening: nobody answers, and nobody else can take it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_server_that_is_away(importer: Importer, unused_port: int) -> None:
    url = f"postgresql://me:secret@127.0.0.1:{unused_port}/users"

    result = importer.run("import", env={"POSTGRES_URL": url})

    assert_refused(result, 1, f"127.0.0.1:{unused_port}", "POSTGRES_URL")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", ["import", "worker", "status", "errors"])
def test_a_database_that_is_not_there(importer: Importer, sql: Sql, command: str) -> None:
    url = sql.url.replace("/test_", "/missing_")

    assert_refused(importer.run(command, env={"POSTGRES_URL": url}), 1, "does not exist")


@pytest.mark.parametrize("url", ["localhost", "mysql://me@localhost/users", "postgresql//x"])
def test_an_address_that_is_none(importer: Importer, url: str) -> None:
    assert_refused(importer.run("import", env={"POSTGRES_URL": url}), 1, "POSTGRES_URL")


@pytest.mark.parametrize("command", ["worker", "status", "errors"])
def test_a_database_that_is_not_migrated(
    importer: Importer, empty_postgres_url: str, command: str
) -> None:
    result = importer.run(command, env={"POSTGRES_URL": empty_postgres_url})

    assert_refused(result, 1, "not migrated", "python integration.py migrate")


def test_an_api_that_stays_away_without_a_cache(
    importer: Importer, sql: Sql, api: Standin, cache: Path
) -> None:
    cache.unlink()
    api.stop()

    result = importer.run("import", "--json", env={"IMPORT_PATIENCE": "1"})

    assert result.status == 1
    assert result.json()["status"] == "incomplete"
    assert "Connection refused" in result.json()["reason"]
    api.start()
    again = importer.run("import", "--json")
    assert (again.status, again.json()["imported"]) == (0, 5_000)
    assert again.json()["import_id"] == result.json()["import_id"], "its seed goes on"
    assert sql.value("SELECT count(*) FROM imports") == 1


def test_a_socket_path_that_cannot_be_used(importer: Importer, tmp_path: Path) -> None:
    url = f"postgresql://postgres@/users?host={tmp_path / ('long' * 30)}"

    assert_refused(importer.run("import", env={"POSTGRES_URL": url}), 1, "POSTGRES_URL")


@pytest.fixture
def read_only_cache(cache: Path) -> Iterator[Path]:
    """A cache in a folder where nothing can be made, not even by root."""
    folder = cache.parent / "data"
    folder.mkdir()
    read_only = cache.rename(folder / cache.name)
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield read_only
        folder.chmod(0o700)
        return
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield read_only
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_data_folder(importer: Importer, api: Standin, read_only_cache: Path) -> None:
    before = read_only_cache.read_bytes()
    env = {"IMPORT_CACHE": str(read_only_cache)}

    result = importer.run("import", "--refresh", "--json", env=env)

    assert (result.status, result.json()["imported"]) == (0, 5_000)
    assert "data.json is not renewed: Read-only" in result.stderr or (
        "data.json is not renewed: Permission denied" in result.stderr
    )
    assert read_only_cache.read_bytes() == before


TEN_WAYS: dict[str, Callable[[User], User]] = {
    "$.gender": lambda user: without(user, "gender"),
    "$.name.first": lambda user: with_value(user, "name.first", 7),
    "$.location.coordinates.latitude": lambda user: with_value(
        user, "location.coordinates.latitude", "91.0"
    ),
    "$.location.coordinates.longitude": lambda user: without(
        user, "location.coordinates.longitude"
    ),
    "$.location.street.number": lambda user: with_value(user, "location.street.number", "12a"),
    "$.login.uuid": lambda user: with_value(user, "login.uuid", "not-one"),
    "$.dob.date": lambda user: with_value(user, "dob.date", "1990-02-31T00:00:00Z"),
    "$.registered.date": lambda user: with_value(user, "registered.date", None),
    "$.email": lambda user: with_value(user, "email", "a\0b"),
    "$.picture": lambda user: without(user, "picture"),
}


@pytest.mark.parametrize("name", ["u.json", "u.jsonl", "u.json.gz", "u.jsonl.gz"])
def test_a_thousand_users_of_whom_ten_are_broken_in_ten_ways(
    importer: Importer, sql: Sql, tmp_path: Path, name: str
) -> None:
    found = users(1_000)
    for position, break_ in zip(range(3, 1_000, 100), TEN_WAYS.values(), strict=True):
        found[position] = break_(found[position])
    content = lines_of(found) if ".jsonl" in name else answer_of(found)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    result = importer.run("import", "--input", path, "--json")

    assert result.status == 3
    assert sql.value("SELECT count(*) FROM random_users") == 990
    assert sql(
        "SELECT (message->>'position')::int, message #>> '{error,path}' FROM errors ORDER BY 1"
    ) == list(zip(range(3, 1_000, 100), TEN_WAYS, strict=True))


def test_lines_that_are_no_records_cost_their_neighbours_nothing(
    importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    found = users(4)
    bad: list[User | bytes] = [b"{", encode(found[3])[:100], b"\xff\xfe", b"[]", b"\0"]
    path = tmp_path / "u.jsonl"
    path.write_bytes(lines_of([found[0], *bad, found[1], found[2]]))

    result = importer.run("import", "--input", path, "--json")

    assert (result.status, result.json()["imported"], result.json()["rejected"]) == (3, 3, 5)
    assert sql.value("SELECT count(*) FROM errors") == 5
