"""Several commands at once, and a cache that changes before, during and after an import."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import postgres
from tests.standin import Standin
from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    assert_exactly_once,
    is_waiting,
    loaded_chunks,
    write_users,
)
from tests.support.programs import Importer
from tests.support.users import answer_of, users
from tests.support.waiting import until


def test_same_import_in_two_terminals_is_one(importer: Importer, sql: Sql, tmp_path: Path) -> None:
    file = write_users(tmp_path, 1_500, broken_every=500)
    words = ("import", "--input", file.path, *SMALL_CHUNKS, "--json")

    with psycopg.connect(sql.url) as blocker:
        blocker.execute("LOCK TABLE imports IN EXCLUSIVE MODE")
        both = [importer.spawn(*words), importer.spawn(*words)]
        until(lambda: all(is_waiting(sql, one) for one in both), "both have found no import yet")
    results = [one.wait() for one in both]

    assert [one.status for one in results] == [3, 3]
    assert results[0].json()["import_id"] == results[1].json()["import_id"]
    assert_exactly_once(sql, file)


def test_two_imports_at_once_are_not_mixed_up(importer: Importer, sql: Sql, tmp_path: Path) -> None:
    halves = {"one": users(1_000)[:500], "two": users(1_000)[500:]}
    processes = {}
    for name, half in halves.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(answer_of(half))
        processes[name] = importer.spawn("import", "--input", path, *SMALL_CHUNKS, "--json")
    for name, process in processes.items():
        import_id = process.wait().json()["import_id"]
        ids = sql("SELECT id FROM random_users WHERE import_id = %s", import_id)
        assert {str(row[0]) for row in ids} == {user["login"]["uuid"] for user in halves[name]}


def test_four_importers_share_one_server_which_stays_for_a_session(
    importer: Importer, cache: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="pg-") as place:
        folder = Path(place) / "s"
        importer.programs.environment |= {"POSTGRES_URL": "", "POSTGRES_FOLDER": str(folder)}
        cache.write_bytes(answer_of(users(100)))
        first = [importer.spawn("import", "--json") for _ in range(4)]
        try:
            results = [one.wait() for one in first]
            assert [one.status for one in results] == [0] * 4
            assert len({one.json()["import_id"] for one in results}) == 1
            assert postgres.running_url(folder) is None

            with psycopg.connect(postgres.ensure_running(folder)) as session:
                postgres.stop_if_unused(folder)
                assert importer.run("import").status == 0
                counted = session.execute("SELECT count(*) FROM random_users").fetchone()
                assert counted == (100,)
        finally:
            importer.programs.end()
            postgres.stop(folder)


CHANGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:10_000]),
    "emptied": lambda path: path.write_bytes(b""),
    "replaced": lambda path: path.write_bytes(answer_of(users(20))),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_cache_that_changes_during_an_import_has_no_effect(
    importer: Importer, sql: Sql, cache: Path, change: Callable[[Path], object]
) -> None:
    cache.write_bytes(answer_of(users(1_000)))
    process = importer.spawn("import", *SMALL_CHUNKS)
    until(lambda: loaded_chunks(sql) >= 2, "some chunks are loaded")
    change(cache)

    assert process.wait().status == 0
    assert sql.value("SELECT count(*) FROM random_users") == 1_000


@pytest.mark.parametrize("name", ["truncated", "emptied"])
def test_broken_cache_is_a_clear_error_until_it_is_fetched_anew(
    importer: Importer, sql: Sql, cache: Path, api: Standin, name: str
) -> None:
    CHANGES[name](cache)
    result = importer.run("import")

    assert result.status == 1
    assert str(cache) in result.stderr
    assert "--refresh" in result.stderr
    assert importer.run("import", "--refresh", "--count", "50").status == 0
    assert sql.value("SELECT count(*) FROM random_users") == 50


def test_deleted_cache_is_fetched_anew(
    importer: Importer, sql: Sql, cache: Path, api: Standin
) -> None:
    cache.unlink()

    assert importer.run("import", "--count", "50").status == 0
    assert len(api.requests) == 1
    assert cache.exists()


def test_cache_replaced_after_an_import_is_a_new_import(
    importer: Importer, sql: Sql, cache: Path
) -> None:
    cache.write_bytes(answer_of(users(20)))
    assert importer.run("import").status == 0
    cache.write_bytes(answer_of(users(60)[30:]))

    assert importer.run("import").status == 0
    assert sql.value("SELECT count(*) FROM random_users") == 50
    assert sql.value("SELECT count(*) FROM imports") == 2
