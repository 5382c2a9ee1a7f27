"""A chunk into its table: batches, savepoints, rejects, conflicts, and what is nobody's fault."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple, replace
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from database import Database
from imports import Plan
from insertion import Counts, Outcome, insert_records
from randomuser import SOURCE, RandomUser, UserRow
from tests.support.databases import Sql
from tests.support.staging import load, load_chunk, stage
from tests.support.users import User, encode, users, with_value, without

pytestmark = pytest.mark.usefixtures("db")

BAD_CITY = "Nowhere"

REFUSE_BAD_CITY = f"ALTER TABLE random_users ADD CONSTRAINT no_city CHECK (city <> '{BAD_CITY}')"

PARTITION = (
    "ALTER TABLE random_users RENAME TO whole",
    "CREATE TABLE random_users (LIKE whole INCLUDING DEFAULTS) PARTITION BY RANGE (id)",
    "ALTER TABLE random_users ADD PRIMARY KEY (id)",
    "CREATE TABLE low PARTITION OF random_users "
    "FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000')",
    "CREATE TABLE high PARTITION OF random_users "
    "FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE)",
)

RECORD_BATCHES = (
    "CREATE TABLE batches (rows bigint)",
    """
    CREATE FUNCTION record_batch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO batches SELECT count(*) FROM new; RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER record_batch AFTER INSERT ON random_users
    REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION record_batch()
    """,
)


def fail_at_bad_city(sql: Sql, code: str) -> None:
    """The server refuses a user of the bad city with an error of this SQLSTATE."""
    sql(
        f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{code}'; END $$
        """
    )
    sql(
        "CREATE TRIGGER fail BEFORE INSERT ON random_users FOR EACH ROW "
        f"WHEN (new.city = '{BAD_CITY}') EXECUTE FUNCTION fail()"
    )


def with_bad_city(found: Sequence[User], *positions: int) -> list[User]:
    return [
        with_value(user, "location.city", BAD_CITY) if position in positions else user
        for position, user in enumerate(found)
    ]


def ids(found: Sequence[User]) -> set[str]:
    return {user["login"]["uuid"] for user in found}


def stored_ids(sql: Sql) -> set[str]:
    return {str(found) for (found,) in sql("SELECT id FROM random_users")}


def messages(sql: Sql) -> list[dict[str, Any]]:
    return [
        message
        for (message,) in sql("SELECT message FROM errors ORDER BY (message->'position')::int")
    ]


def test_a_partitioned_table_is_loaded_too(sql: Sql, tmp_path: Path) -> None:
    for statement in PARTITION:
        sql(statement)
    found = users(25)

    assert load(stage(tmp_path, [*found, *found[:5]])) == Counts(imported=25, skipped=5)
    assert stored_ids(sql) == ids(found)
    assert sql.value("SELECT count(*) FROM low") + sql.value("SELECT count(*) FROM high") == 25


@pytest.mark.parametrize(("size", "batches"), [(10, [10, 10, 5]), (1, [1] * 25), (30, [25])])
def test_users_go_in_by_batches(
    sql: Sql, tmp_path: Path, size: int, batches: Sequence[int]
) -> None:
    for statement in RECORD_BATCHES:
        sql(statement)

    load(stage(tmp_path, users(25), batch_size=size, chunk_size=30))

    assert [rows for (rows,) in sql("SELECT rows FROM batches ORDER BY rows DESC")] == batches


@pytest.mark.parametrize("size", [10, 30])
def test_a_bad_record_costs_its_neighbours_nothing(sql: Sql, tmp_path: Path, size: int) -> None:
    found = with_bad_city(users(30), 4, 5, 29)
    sql(REFUSE_BAD_CITY)

    counts = load(stage(tmp_path, found, batch_size=size))

    assert counts == Counts(imported=27, rejected=3)
    assert stored_ids(sql) == ids(found) - ids([found[4], found[5], found[29]])
    assert [message["position"] for message in messages(sql)] == [4, 5, 29]


def test_a_record_that_the_table_refuses_is_kept_with_the_reason(sql: Sql, tmp_path: Path) -> None:
    [user] = found = with_bad_city(users(1), 0)
    sql(REFUSE_BAD_CITY)

    this = stage(tmp_path, found)
    load(this)

    [message] = messages(sql)
    error = message.pop("error")
    del user["login"]["password"]
    assert message == {
        "import_id": this.id,
        "position": 0,
        "user_id": user["login"]["uuid"],
        "stage": "insert",
        "attempts": 1,
        "record": user,
    }
    assert (error["type"], error["sqlstate"], error["path"]) == (
        "CheckViolation",
        "23514",
        "no_city",
    )
    assert "no_city" in error["detail"]


def test_a_record_without_the_shape_is_kept_with_its_field(sql: Sql, tmp_path: Path) -> None:
    found = users(3)
    broken: list[User | bytes] = [found[0], without(found[1], "location.city"), b'{"half":']

    counts = load(stage(tmp_path, [*broken, found[2]]))

    assert counts == Counts(imported=2, rejected=2)
    shapeless, text = messages(sql)
    assert (shapeless["stage"], shapeless["error"]["path"]) == ("decode", "$.location.city")
    assert shapeless["user_id"] == found[1]["login"]["uuid"]
    assert (text["error"]["path"], text["user_id"], text["record"]) == ("$", None, '{"half":')


@pytest.mark.parametrize("code", ["57014", "42501", "42P01", "0A000", "XX000"])
def test_an_error_that_the_data_did_not_make_rejects_nobody(
    sql: Sql, tmp_path: Path, code: str
) -> None:
    this = stage(tmp_path, with_bad_city(users(30), 17))
    fail_at_bad_city(sql, code)

    with pytest.raises(DBAPIError, match="made to fail"):
        load(this)

    assert stored_ids(sql) == set()
    assert messages(sql) == []
    assert sql.value("SELECT count(*) FROM chunks WHERE loaded_at IS NULL") == 1


@pytest.mark.parametrize("code", ["22000", "23000", "22P05", "23505"])
def test_an_error_that_the_data_made_rejects_one(sql: Sql, tmp_path: Path, code: str) -> None:
    this = stage(tmp_path, with_bad_city(users(30), 17))
    fail_at_bad_city(sql, code)

    assert load(this) == Counts(imported=29, rejected=1)
    assert messages(sql)[0]["error"]["sqlstate"] == code


def test_a_chunk_is_loaded_once(sql: Sql, tmp_path: Path) -> None:
    this = stage(tmp_path, [*users(19), b"no user"])

    first, second = load_chunk(this, 0), load_chunk(this, 0)

    assert first == second == Counts(imported=19, rejected=1)
    assert len(stored_ids(sql)) == 19
    assert len(messages(sql)) == 1


@pytest.mark.parametrize("chunk_size", [20, 5], ids=["one chunk", "several chunks"])
def test_a_user_that_comes_twice_is_skipped(sql: Sql, tmp_path: Path, chunk_size: int) -> None:
    found = users(10)
    later = [with_value(user, "location.city", "Later") for user in found]

    counts = load(stage(tmp_path, [*found, *later], chunk_size=chunk_size, batch_size=5))

    assert counts == Counts(imported=10, skipped=10)
    assert sql("SELECT id FROM random_users WHERE city = 'Later'") == []


@pytest.mark.parametrize("chunk_size", [20, 5], ids=["one chunk", "several chunks"])
def test_a_user_that_comes_twice_is_updated_to_the_later(
    sql: Sql, tmp_path: Path, chunk_size: int
) -> None:
    found = users(10)
    later = [with_value(user, "location.city", "Later") for user in found]

    counts = load(
        stage(
            tmp_path,
            [*found, *later],
            chunk_size=chunk_size,
            batch_size=5,
            on_conflict="update",
        )
    )

    assert counts == Counts(imported=10, updated=10)
    assert len(sql("SELECT id FROM random_users WHERE city = 'Later'")) == 10


def test_a_user_that_comes_thrice_in_a_batch_is_updated_to_the_last(
    sql: Sql, tmp_path: Path
) -> None:
    [user] = users(1)
    found = [with_value(user, "location.city", city) for city in ("A", "B", "C")]

    counts = load(stage(tmp_path, found, on_conflict="update"))

    assert counts == Counts(imported=1, updated=2)
    assert sql.value("SELECT city FROM random_users") == "C"


@pytest.mark.parametrize(
    ("on_conflict", "counts", "city"),
    [("skip", Counts(skipped=10), "Was"), ("update", Counts(updated=10), "Is")],
)
def test_a_user_of_an_earlier_import_is_skipped_or_updated(
    sql: Sql, tmp_path: Path, on_conflict: Any, counts: Counts, city: str
) -> None:
    old = [with_value(user, "location.city", "Was") for user in users(10)]
    new = [with_value(user, "location.city", "Is") for user in users(10)]
    first = stage(tmp_path, old)
    load(first)

    second = stage(tmp_path, new, on_conflict=on_conflict)

    assert load(second) == counts
    assert sql("SELECT DISTINCT city FROM random_users") == [(city,)]
    owner = second if on_conflict == "update" else first
    assert sql("SELECT DISTINCT import_id FROM random_users") == [(owner.id,)]


def test_rows_go_in_ordered_by_id(sql: Sql, tmp_path: Path, db: Database) -> None:
    load(stage(tmp_path, users(60), batch_size=7))

    assert sql("SELECT id FROM random_users ORDER BY ctid") == sql(
        "SELECT id FROM random_users ORDER BY id"
    )
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch_size", [10, 300])
def test_large_batch_keeps_every_promise_of_a_small_one(
    tmp_path: Path, sql: Sql, batch_size: int
) -> None:
    """COPY takes all or nothing: what it refuses, for whatever reason, INSERT must sort out."""
    sql(REFUSE_BAD_CITY)
    found = users(400)
    earlier = stage(tmp_path, found[:150], batch_size=batch_size, chunk_size=300)
    assert load(earlier) == Counts(imported=150)

    mixed = [*with_bad_city(found[100:350], 7), found[300], without(found[360], "email")]
    counts = load(stage(tmp_path, mixed, batch_size=batch_size, chunk_size=300))

    assert counts == Counts(imported=200, skipped=50, rejected=2)
    rejected = [(message["position"], message["stage"]) for message in messages(sql)]
    assert rejected == [(7, "insert"), (251, "decode")]
    assert sql("SELECT count(*) FROM random_users") == [(350,)]


def test_large_batch_that_fails_for_no_fault_of_its_data_leaves_nothing(
    tmp_path: Path, sql: Sql
) -> None:
    fail_at_bad_city(sql, "57014")
    with pytest.raises(DBAPIError):
        load(stage(tmp_path, with_bad_city(users(150), 100), batch_size=150, chunk_size=150))
    assert sql("SELECT count(*) FROM random_users") == [(0,)]


class WithAge(RandomUser):
    """A source that lets an age pass that its column can't hold."""

    def __init__(self, old: bytes, age: int) -> None:
        self._old, self._age = old, age

    def decode(self, record: bytes) -> UserRow:
        row = super().decode(record)
        return replace(row, age=self._age) if record == self._old else row


@pytest.mark.parametrize("batch_size", [10, 200])
@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40, 2**63, 2**64])
def test_number_that_its_column_can_not_hold_is_rejected_not_cut(
    sql: Sql, db: Database, batch_size: int, number: int
) -> None:
    """In binary form, the driver cuts it to the column's bits."""
    records = [encode(user) for user in users(150)]
    source = WithAge(records[7], number)
    plan = Plan(request="", source=SOURCE.name, batch_size=batch_size, chunk_size=200)

    with Session(db.engine) as session, session.begin():
        session.execute(text("SELECT 1"))
        outcome = insert_records(session, source, "import", plan, enumerate(records))

    [reject] = outcome.rejects
    assert outcome.counts == Counts(imported=149, rejected=1)
    assert (reject.position, reject.failure.sqlstate) == (7, "22003")
    assert sql.value("SELECT count(*) FROM random_users") == 149


class TextIdRow(UserRow, frozen=True, gc=False):
    id: str  # type: ignore[assignment]


class TextIds(RandomUser):
    """A source whose field is of another type than its column, which INSERT takes as it is."""

    row_type = TextIdRow  # type: ignore[assignment]

    def decode(self, record: bytes) -> UserRow:
        row = super().decode(record)
        return TextIdRow(str(row.id), *astuple(row)[1:])


@pytest.mark.parametrize("batch_size", [10, 200])
def test_field_of_another_type_than_its_column_goes_in_by_insert(
    sql: Sql, db: Database, batch_size: int
) -> None:
    """In binary form, the driver refuses or spoils it."""
    records = [encode(user) for user in users(150)]
    plan = Plan(request="", source=SOURCE.name, batch_size=batch_size, chunk_size=200)

    with Session(db.engine) as session, session.begin():
        session.execute(text("SELECT 1"))
        outcome = insert_records(session, TextIds(), "import", plan, enumerate(records))

    assert outcome == Outcome(Counts(imported=150), [])
    assert stored_ids(sql) == {user["login"]["uuid"] for user in users(150)}


@pytest.mark.parametrize("batch_size", [10, 200])
def test_what_is_wrong_with_the_table_is_the_reason(
    sql: Sql, tmp_path: Path, batch_size: int
) -> None:
    sql("ALTER TABLE random_users RENAME cell TO cells")

    with pytest.raises(DBAPIError, match='column "cell"'):
        load(stage(tmp_path, users(150), batch_size=batch_size, chunk_size=200))
