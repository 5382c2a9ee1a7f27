"""Pages on their way into PostgreSQL: read, without passwords, once each, and the cache whole."""

import gzip
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql as composed

import imports
import loader
import pages
from database import transaction
from imports import Import
from planning import plan_import
from randomuser import SOURCE, RandomUser
from rejects import Failure
from settings import ImportOptions
from source import SourceError
from tests.standin import Standin, faults
from tests.support.databases import Sql
from tests.support.staging import load, stage
from tests.support.users import User, answer_of, encode, lines_of, users, with_value, without

STAGED = "SELECT chunk, page, position, users FROM chunks ORDER BY chunk"

STATES = "SELECT workflow_uuid, status, queue_name FROM dbos.workflow_status ORDER BY 1"


SEED = (("seed", "pages"),)


def fetched(count: int, url: str, parameters: tuple[tuple[str, str], ...] = SEED) -> Import:
    options = ImportOptions(count=count, parameters=parameters, refresh=True)
    plan = plan_import(SOURCE, options)
    assert plan.url == url
    return transaction("create_import", imports.create, plan)


@pytest.fixture
def api_of_this_process(api: Standin, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Standin:
    monkeypatch.setenv("RANDOMUSER_URL", api.url)
    monkeypatch.setenv("IMPORT_CACHE", str(cache))
    return api


@pytest.mark.usefixtures("db")
def test_a_page_is_split_into_chunks_by_reference(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)

    assert sql(STAGED) == [(0, 1, 0, 10), (1, 1, 10, 10), (2, 1, 20, 5)]
    assert sql(STATES) == [(f"{this.id}.1.{chunk}", "ENQUEUED", "chunks") for chunk in range(3)]
    arguments = [json.loads(one) for (one,) in sql("SELECT inputs FROM dbos.workflow_input")]
    assert sorted(one["positionalArgs"] for one in arguments) == [[this.id, n] for n in range(3)]


@pytest.mark.usefixtures("db")
def test_positions_go_on_over_pages(sql: Sql, tmp_path: Path) -> None:
    stage(tmp_path, [b"{}"] * 5_003, chunk_size=2_500)

    assert sql(STAGED) == [(0, 1, 0, 2500), (1, 1, 2500, 2500), (2, 2, 5000, 3)]


@pytest.mark.usefixtures("db")
def test_staging_again_changes_nothing(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)
    tables = ("staged_pages", "chunks", "imports")
    before = [sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables] + [sql(STATES)]

    pages.stage_file(SOURCE, this)

    assert [sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables] + [
        sql(STATES)
    ] == before


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("content", [b"[]\n" * 10_001, b"", b"\n"], ids=["other", "empty", "blank"])
@pytest.mark.parametrize("count", [None, 6_000])
def test_nothing_of_a_file_that_changed_meanwhile_is_staged(
    sql: Sql, tmp_path: Path, count: int | None, content: bytes
) -> None:
    path = tmp_path / "users.jsonl"
    path.write_bytes(b"{}\n" * 10_001)
    plan = plan_import(SOURCE, ImportOptions(input=path, count=count))
    this = transaction("create_import", imports.create, plan)
    path.write_bytes(content)

    with pytest.raises(SourceError, match=f"has changed since import {this.id} began"):
        pages.stage_file(SOURCE, this)

    assert sql("SELECT * FROM staged_pages") == []


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("put", ["moved there", "written"])
def test_file_of_the_same_size_and_time_is_told_apart(tmp_path: Path, put: str) -> None:
    path, other = tmp_path / "users.jsonl", tmp_path / "other"
    path.write_bytes(b"{}\n")
    time = path.stat().st_mtime_ns
    this = transaction(
        "create_import", imports.create, plan_import(SOURCE, ImportOptions(input=path))
    )
    if put == "written":
        path.write_bytes(b"[]\n")
    else:
        other.write_bytes(b"[]\n")
        other.replace(path)
    os.utime(path, ns=(time, time))

    with pytest.raises(SourceError, match="has changed since"):
        pages.stage_file(SOURCE, this)


@pytest.mark.usefixtures("db")
def test_file_that_another_machine_has_a_copy_of_is_read(sql: Sql, tmp_path: Path) -> None:
    path, copy = tmp_path / "users.jsonl", tmp_path / "copy"
    path.write_bytes(b"{}\n")
    this = transaction(
        "create_import", imports.create, plan_import(SOURCE, ImportOptions(input=path))
    )
    copy.write_bytes(b"{}\n")
    copy.replace(path)

    pages.stage_file(SOURCE, this)

    assert sql.value("SELECT sum(users) FROM chunks") == 1


class Overwriting(RandomUser):
    """Whose first record comes just before somebody writes into the file."""

    def __init__(self, path: Path, content: bytes = b"[]\n" * 10_001) -> None:
        self.path: Path | None = path
        self.content = content

    def all_without_secrets(self, records: Sequence[bytes]) -> list[bytes]:
        if self.path is not None:
            self.path.write_bytes(self.content)
            self.path = None
        return list(records)


@pytest.mark.usefixtures("db")
def test_file_that_is_cut_at_the_end_of_a_page_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b"{}".ljust(1_023) + b"\n"
    # What is read ahead ends there, too.
    monkeypatch.setattr(pages, "READ_BYTES", len(line) * SOURCE.page_size)
    path = tmp_path / "users.jsonl"
    path.write_bytes(line * SOURCE.page_size * 2)
    plan = plan_import(SOURCE, ImportOptions(input=path))
    this = transaction("create_import", imports.create, plan)

    with pytest.raises(SourceError, match="has changed since"):
        pages.stage_file(Overwriting(path, line * SOURCE.page_size), this)


@pytest.mark.usefixtures("db")
def test_nothing_more_of_a_file_that_changes_under_way_is_staged(sql: Sql, tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_bytes(b"{}\n" * 10_001)
    plan = plan_import(SOURCE, ImportOptions(input=path))
    this = transaction("create_import", imports.create, plan)

    with pytest.raises(SourceError, match="has changed since"):
        pages.stage_file(Overwriting(path), this)

    assert sql("SELECT page FROM staged_pages") == [(1,)]
    path.write_bytes(b"{}\n" * 10_001)
    pages.stage_file(SOURCE, this)
    assert sql.value("SELECT sum(users) FROM chunks") == 10_001


@pytest.mark.usefixtures("db")
def test_a_chunk_given_up_is_tried_again_by_the_next_attempt_only(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, users(25), chunk_size=10)
    failure = Failure("InsufficientPrivilege", "the real reason")
    transaction("fail_chunk", loader.fail_chunk, this.id, 1, None, failure)
    sql("UPDATE chunks SET takeovers = 3 WHERE chunk = 1")

    pages.stage_file(SOURCE, this)
    assert sql("SELECT chunk, takeovers FROM chunks WHERE failed_at IS NOT NULL") == [(1, 3)]

    again = transaction("attempt", imports.next_attempt, this)
    transaction("begin", imports.begin, again.id, again.attempt)
    pages.stage_file(SOURCE, again)
    assert sql("SELECT chunk FROM chunks WHERE failed_at IS NOT NULL OR takeovers > 0") == []
    assert (f"{this.id}.2.1", "ENQUEUED", "chunks") in sql(STATES)


@pytest.mark.usefixtures("db")
def test_no_password_reaches_the_database(sql: Sql, tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    whole = [with_value(user, "login.password", f"{secret}-{user['nat']}") for user in users(30)]
    broken: list[User | bytes] = [without(user, "location.city") for user in whole[:3]]
    torn = [encode(whole[4])[:-40], b"[" + encode(whole[5]), b"\xff" + encode(whole[6])]

    this = stage(tmp_path, [*whole[10:], *broken, *torn])
    staged = b"".join(
        record
        for payload, offset, length in sql(
            "SELECT payload, block_offset, block_length FROM staged_pages NATURAL JOIN chunks"
        )
        for record in pages.unpack(payload[offset : offset + length])
    )
    load(this)

    assert secret.encode() not in staged
    assert b"username" in staged
    assert secret not in everything_in(sql.url)
    assert "username" in everything_in(sql.url)


def everything_in(url: str) -> str:
    """Each row of each table, in every schema but the server's own, as text."""
    tables = """
        SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
    """
    with psycopg.connect(url) as connection:
        return "\n".join(
            row
            for table in connection.execute(tables).fetchall()
            for (row,) in connection.execute(
                composed.SQL("SELECT t::text FROM {} AS t").format(composed.Identifier(*table))
            )
        )


@pytest.mark.usefixtures("db")
def test_a_staged_page_is_not_fetched_again(api_of_this_process: Standin, sql: Sql) -> None:
    this = fetched(40, api_of_this_process.url)

    for _ in range(2):
        assert pages.stage_fetched(SOURCE, this, 1, "1") is None

    assert len(api_of_this_process.requests) == 1
    assert sql.value("SELECT sum(users) FROM chunks") == 40


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "before", [None, b"torn", answer_of(users(39))], ids=["no cache", "a broken one", "a smaller"]
)
def test_a_single_page_becomes_the_cache(
    api_of_this_process: Standin, cache: Path, before: bytes | None
) -> None:
    cache.unlink()
    if before is not None:
        cache.write_bytes(before)

    pages.stage_fetched(SOURCE, fetched(40, api_of_this_process.url, ()), 1, "1")

    assert len(SOURCE.split(cache.read_bytes())) == 40
    assert list(cache.parent.glob(".data.json*")) == []


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("count", "parameters"),
    [(5_000, SEED), (5_000, (("nat", "fr"),)), (4_999, ()), (5_002, ())],
    ids=["of a seed", "of a nationality", "of fewer than it holds", "one of several"],
)
def test_any_other_page_leaves_the_cache_alone(
    api_of_this_process: Standin,
    cache: Path,
    count: int,
    parameters: tuple[tuple[str, str], ...],
) -> None:
    before = cache.read_bytes()

    pages.stage_fetched(SOURCE, fetched(count, api_of_this_process.url, parameters), 1, "1")

    assert cache.read_bytes() == before


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("fault", [faults.WrongPage(), faults.WrongSeed(), faults.OneUser()])
def test_a_page_that_was_not_asked_for_is_never_staged(
    api_of_this_process: Standin, sql: Sql, cache: Path, fault: faults.Fault
) -> None:
    before = cache.read_bytes()
    api_of_this_process.script(fault, times=None)

    with pytest.raises(SourceError, match="asked for seed pages, page 1, 40 users"):
        pages.stage_fetched(SOURCE, fetched(40, api_of_this_process.url), 1, "1")

    assert sql("SELECT * FROM staged_pages") == []
    assert cache.read_bytes() == before


def test_a_reader_of_the_cache_finds_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    answers = [answer_of(users(count)) for count in (2_000, 3_000)]
    path.write_bytes(answers[0])
    is_done = threading.Event()

    def write() -> None:
        for number in range(30):
            pages.write_cache(path, answers[number % 2])
        is_done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not is_done.is_set():
        assert path.read_bytes() in answers
    writer.join()


def test_a_cache_that_cannot_be_written_is_said_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages.write_cache(tmp_path / "missing" / "data.json", b"{}")

    assert "data.json is not renewed: No such file or directory" in caplog.text


@pytest.mark.parametrize("name", ["u.json", "u.json.gz", "u.jsonl", "u.jsonl.gz"])
def test_a_file_is_read_in_each_form(tmp_path: Path, name: str) -> None:
    found = users(3)
    content = lines_of(found) if ".jsonl" in name else answer_of(found)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    assert list(pages.read_records(SOURCE, path)) == [encode(user) for user in found]


def test_blank_lines_and_foreign_line_ends_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_bytes(b"\n{}\r\n   \n\n[]")

    assert list(pages.read_records(SOURCE, path)) == [b"{}", b"[]"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("u.json", b"", "no valid JSON"),
        ("u.json", answer_of(users(2))[:-50], r"no valid JSON: .*truncated"),
        ("u.json", b'{"results":[{"a":1},}', r"byte 20"),
        ("u.json", b"<html>", r"byte 0"),
        ("u.json", b'{"users":[]}', "has no `results`"),
        ("u.json", b"[]", "no answer of randomuser"),
        ("u.json", b'{"error":"Uh oh"}', "the API says: Uh oh"),
        ("u.json.gz", b"plain", "can't be read"),
        ("u.jsonl.gz", gzip.compress(b"{}\n" * 9_999, mtime=0)[:-9], "can't be read"),
    ],
)
def test_a_file_that_is_no_answer_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(SourceError, match=rf"{name}.*{reason}"):
        list(pages.read_records(SOURCE, path))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_LINE_BYTES", 100)
    path = tmp_path / "u.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 101)

    with pytest.raises(SourceError, match="a line of over 100 bytes"):
        list(pages.read_records(SOURCE, path))
