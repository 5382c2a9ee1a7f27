"""Rejected users tried again: after a fix of the schema, of the row in `errors`, or in a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

import imports
import retrying
from database import transaction
from imports import Import
from insertion import Counts
from source import SourceError
from tests.support.databases import Sql
from tests.support.exactly_once import is_waiting
from tests.support.programs import Importer
from tests.support.staging import load, stage
from tests.support.users import User, encode, lines_of, users, with_value, without
from tests.support.waiting import until

TOTALS = ("users", "imported", "updated", "skipped", "rejected")
CHUNK = 20
ONLY_ERRORS = "ALTER TABLE random_users ADD CONSTRAINT nobody CHECK (age < 0)"
HEALED = "ALTER TABLE random_users DROP CONSTRAINT nobody"


def run(folder: Path, found: Sequence[User | bytes]) -> Import:
    """An import of these users from its beginning to its end."""
    this = stage(folder, found, chunk_size=CHUNK)
    load(this)
    transaction("finish_import", imports.finish, this.id, this.attempt, None)
    return this


def totals(sql: Sql) -> dict[str, Any]:
    """Of the only import; its chunks must come to the same."""
    [(state, *numbers)] = sql(f"SELECT state, {', '.join(TOTALS)} FROM imports")
    sums = ", ".join(f"sum({name})::int" for name in TOTALS)
    assert list(sql(f"SELECT {sums} FROM chunks")[0]) == numbers
    return {"state": state, **dict(zip(TOTALS, numbers, strict=True))}


def cityless(count: int, *positions: int) -> list[User | bytes]:
    return [
        without(user, "location.city") if position in positions else user
        for position, user in enumerate(users(count))
    ]


def mended_lines(sql: Sql, **cities: str) -> list[User]:
    """What `errors --jsonl` prints, with a city put in at some positions (`at_3="Oslo"`)."""
    messages = [message for (message,) in sql("SELECT message FROM errors")]
    return [
        with_value(message, "record.location.city", cities[f"at_{message['position']}"])
        if f"at_{message['position']}" in cities
        else message
        for message in sorted(messages, key=lambda message: int(message["position"]))
    ]


def attempts(sql: Sql) -> set[int]:
    return {int(number) for (number,) in sql("SELECT message ->> 'attempts' FROM errors")}


def password_free(sql: Sql, secret: str) -> bool:
    return secret not in str(sql("SELECT message::text FROM errors"))


@pytest.mark.usefixtures("db")
class TestRetry:
    def test_moves_what_goes_in_with_its_counters(self, sql: Sql, tmp_path: Path) -> None:
        sql(ONLY_ERRORS)
        run(tmp_path, users(50))
        assert totals(sql)["rejected"] == 50

        sql(HEALED)
        assert retrying.retry(None) == Counts(imported=50)

        assert totals(sql) == {
            "state": "complete",
            "users": 50,
            "imported": 50,
            "updated": 0,
            "skipped": 0,
            "rejected": 0,
        }
        assert sql.value("SELECT count(*) FROM random_users") == 50
        assert sql.value("SELECT count(*) FROM errors") == 0

    def test_a_second_time_changes_nothing(self, sql: Sql, tmp_path: Path) -> None:
        sql(ONLY_ERRORS)
        run(tmp_path, users(30))
        sql(HEALED)
        retrying.retry(None)
        before = (totals(sql), sql("SELECT * FROM random_users ORDER BY id"))

        assert retrying.retry(None) == Counts()

        assert (totals(sql), sql("SELECT * FROM random_users ORDER BY id")) == before

    def test_what_fails_again_stays_one_row_with_its_new_reason(
        self, sql: Sql, tmp_path: Path
    ) -> None:
        sql(ONLY_ERRORS)
        run(tmp_path, users(30))
        sql(HEALED)
        sql("ALTER TABLE random_users ADD CONSTRAINT another CHECK (age > 200)")

        assert retrying.retry(None) == Counts(rejected=30)

        assert sql.value("SELECT count(*) FROM errors") == 30
        paths = sql("SELECT DISTINCT message -> 'error' ->> 'path' FROM errors")
        assert [path for (path,) in paths] == ["another"]
        assert attempts(sql) == {2}
        assert totals(sql)["rejected"] == 30
        assert totals(sql)["state"] == "complete_with_rejects"

    def test_takes_a_record_mended_by_hand_as_jsonb_or_as_text(
        self, sql: Sql, tmp_path: Path
    ) -> None:
        run(tmp_path, [*cityless(9, 1, 4), b'{"gender": "male", "login": '])
        mended = "UPDATE errors SET message = jsonb_set(message, %s::text[], %s::jsonb)"
        at = " WHERE message -> 'position' = %s::jsonb"
        sql(mended + at, ["record", "location", "city"], '"Oz"', "4")
        sql(mended + at, ["record"], json.dumps(encode(users(10)[9]).decode()), "9")

        assert retrying.retry(None) == Counts(imported=2, rejected=1)

        assert sql.value("SELECT count(*) FROM random_users WHERE city = 'Oz'") == 1
        [line] = mended_lines(sql)
        assert (line["position"], line["error"]["path"]) == (1, "$.location.city")
        assert totals(sql)["imported"] == 9

    def test_a_user_who_came_otherwise_is_skipped(self, sql: Sql, tmp_path: Path) -> None:
        run(tmp_path, cityless(3, 1))
        sql(
            "UPDATE errors SET message = jsonb_set(message, '{record}', %s::jsonb)",
            encode(users(1)[0]).decode(),
        )

        assert retrying.retry(None) == Counts(skipped=1)

        assert totals(sql)["skipped"] == 1
        assert totals(sql)["state"] == "complete"

    def test_leaves_the_totals_of_an_import_under_way_to_it(self, sql: Sql, tmp_path: Path) -> None:
        sql(ONLY_ERRORS)
        this = stage(tmp_path, users(40), chunk_size=CHUNK)
        load(this)
        sql(HEALED)

        retrying.retry(this.id)

        assert sql("SELECT state, imported FROM imports") == [("running", 0)]
        summary = transaction("finish_import", imports.finish, this.id, this.attempt, None)
        assert (summary["status"], summary["imported"]) == ("complete", 40)


@pytest.mark.usefixtures("db")
class TestMend:
    def test_replaces_the_records_of_its_lines(self, sql: Sql, tmp_path: Path) -> None:
        run(tmp_path, [*cityless(60, 0, 25, 59), b'{"broken'])
        lines = mended_lines(sql, at_0="Oz", at_25="Oz")
        lines[-1] = {**lines[-1], "record": '{"broken"'}
        file = tmp_path / "mended.jsonl"
        file.write_bytes(lines_of(lines))

        assert transaction("mend", retrying.mend, file, None) == 4
        assert retrying.retry(None) == Counts(imported=2, rejected=2)

        left = {line["position"]: line["record"] for line in mended_lines(sql)}
        assert left.keys() == {59, 60}
        assert left[60] == '{"broken"'
        assert transaction("mend", retrying.mend, file, None) == 2
        assert retrying.retry(None) == Counts(rejected=2)
        assert totals(sql)["imported"] == 59

    def test_keeps_no_password(self, sql: Sql, tmp_path: Path) -> None:
        run(tmp_path, cityless(3, 0, 1))
        whole, broken = mended_lines(sql)
        whole["record"]["login"]["password"] = "hunter2hunter2"
        broken["record"] = '{"login": {"password": "hunter2hunter2", '
        file = tmp_path / "mended.jsonl"
        file.write_bytes(lines_of([whole, broken]))

        transaction("mend", retrying.mend, file, None)
        assert password_free(sql, "hunter2")
        retrying.retry(None)
        assert password_free(sql, "hunter2")

    def test_passes_over_the_lines_of_other_imports(self, sql: Sql, tmp_path: Path) -> None:
        this = run(tmp_path, cityless(3, 1))
        file = tmp_path / "mended.jsonl"
        file.write_bytes(lines_of(mended_lines(sql, at_1="Oz")))

        assert transaction("mend", retrying.mend, file, "another") == 0
        assert transaction("mend", retrying.mend, file, this.id) == 1

    @pytest.mark.parametrize(
        "line",
        [b"{", b"[]", b'{"import_id": "x"}', b"\xff", b"[" * 100_000],
        ids=["cut", "list", "fields missing", "no UTF-8", "deep"],
    )
    def test_refuses_a_line_of_another_kind_and_changes_nothing(
        self, sql: Sql, tmp_path: Path, line: bytes
    ) -> None:
        run(tmp_path, cityless(3, 1))
        file = tmp_path / "mended.jsonl"
        file.write_bytes(lines_of([*mended_lines(sql, at_1="Oz"), line]))
        before = sql("SELECT id, message FROM errors")

        with pytest.raises(SourceError, match="line 2"):
            transaction("mend", retrying.mend, file, None)

        assert sql("SELECT id, message FROM errors") == before


def test_from_two_terminals(db: object, importer: Importer, sql: Sql, tmp_path: Path) -> None:
    sql(ONLY_ERRORS)
    run(tmp_path, users(400))
    sql(HEALED)

    with psycopg.connect(sql.url) as blocker:
        blocker.execute("LOCK TABLE random_users IN EXCLUSIVE MODE")
        both = [importer.spawn("retry", "--json") for _ in range(2)]
        until(lambda: all(is_waiting(sql, one) for one in both), "both have the same chunk in hand")
    results = [process.wait() for process in both]

    assert [result.status for result in results] == [0, 0]
    assert sum(result.json()["imported"] for result in results) == 400
    found = totals(sql)
    assert (found["imported"], found["skipped"], found["rejected"]) == (400, 0, 0)
    assert sql.value("SELECT count(*) FROM random_users") == 400


def test_killed_half_way(db: object, importer: Importer, sql: Sql, tmp_path: Path) -> None:
    sql(ONLY_ERRORS)
    run(tmp_path, users(200))
    sql(HEALED)
    sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER slow BEFORE INSERT ON random_users FOR EACH ROW EXECUTE FUNCTION slow()")

    process = importer.spawn("retry")
    until(lambda: sql.value("SELECT count(*) FROM random_users") >= CHUNK, "a chunk is in")
    process.kill()

    until(lambda: not sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'WITH%'"), "it is gone")
    loaded = sql.value("SELECT count(*) FROM random_users")
    assert CHUNK <= loaded < 200
    assert totals(sql)["imported"] == loaded
    assert sql.value("SELECT count(*) FROM errors") == 200 - loaded
    sql("DROP TRIGGER slow ON random_users")
    assert retrying.retry(None) == Counts(imported=200 - loaded)
    assert totals(sql)["state"] == "complete"


def test_the_command_says_what_came_of_it(
    db: object, importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    run(tmp_path, cityless(3, 0, 1))
    file = tmp_path / "mended.jsonl"
    file.write_bytes(lines_of(mended_lines(sql, at_0="Oz")))

    some = importer.run("retry", "--input", file, "--json")
    assert (some.status, some.json()) == (3, asdict(Counts(imported=1, rejected=1)))

    file.write_bytes(lines_of(mended_lines(sql, at_1="Oz")))
    rest = importer.run("retry", "--input", file)
    assert (rest.status, rest.stdout) == (
        0,
        "1 imported, 0 updated, 0 skipped, 0 still rejected\n",
    )
