"""Odd records: each ends in exactly one place, with a reason, and harms nobody."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text
from sqlalchemy.orm import Session

import pages
import rejects
import retrying
from database import Database
from imports import Plan
from insertion import Counts, insert_records
from randomuser import SOURCE
from records import decode
from rejects import Reject
from source import SourceError
from tests.support import odd_records
from tests.support.databases import Sql
from tests.support.odd_records import PASSWORD, PLACES, VALUES, OddRecord
from tests.support.staging import load, stage
from tests.support.users import answer_of, encode, users

PLAN = Plan(request="r", source="randomuser", batch_size=10, chunk_size=500)
IMPORT = "odd"
TEN_MEGABYTES = 10 * 1024 * 1024


@pytest.fixture
def session(db: Database) -> Iterator[Session]:
    """Rolled back by each example, so that they don't meet."""
    with Session(db.engine) as session:
        yield session


def load_records(session: Session, records: list[bytes]) -> Counts:
    """The loader's way of a chunk's records into their tables, without the chunk."""
    # As by a chunk's claim, a transaction is open before the first savepoint.
    session.execute(text("SELECT 1"))
    stripped = [SOURCE.without_secrets(record) for record in records]
    outcome = insert_records(session, SOURCE, IMPORT, PLAN, enumerate(stripped))
    rejects.write_rejects(session, IMPORT, outcome.rejects)
    return outcome.counts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(records=odd_records.odd_records())
def test_each_record_ends_in_exactly_one_place(session: Session, records: list[OddRecord]) -> None:
    try:
        counts = load_records(session, [record.text for record in records])

        rejected = {
            int(message["position"]): message
            for message in session.scalars(text("SELECT message FROM errors"))
        }
        loaded = session.scalar(text("SELECT count(*) FROM random_users"))
        assert (counts.imported, counts.rejected) == (loaded, len(rejected))
        # Two records may have become one user, where a changed byte falls into the id.
        assert counts.imported + counts.skipped + counts.rejected == len(records)
        whole = {p for p, record in enumerate(records) if _is_whole(record.text)}
        assert not whole & rejected.keys()
        for message in rejected.values():
            assert message["error"]["detail"]
            assert message["error"]["path"]
        stored = session.scalars(text("SELECT message::text FROM errors")).all()
        assert PASSWORD not in str(stored)
    finally:
        session.rollback()


def _is_whole(record: bytes) -> bool:
    """Whether it is just as the API would send it."""
    try:
        user = json.loads(record)
        number = UUID(user["login"]["uuid"]).int
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return False
    return record == encode(odd_records.of(number))


NAMED = [
    (place, value)
    for place in ("gender", "location.city", "dob.date", "location.street.number", "login.uuid")
    for value in (b"NaN", b"1e400", b'"\\ud800"', b'"\\u0000"', b"null", b"[]", b"{}", b"true")
]


@pytest.mark.parametrize(("place", "value"), NAMED)
def test_the_reason_names_the_field(place: str, value: bytes) -> None:
    record = odd_records.with_raw(odd_records.of(1), place, value)

    reject = decode(SOURCE, 0, SOURCE.without_secrets(record))

    assert isinstance(reject, Reject)
    assert reject.failure.path == f"$.{place}"


def test_all_at_once_among_whole_ones(db: Database, sql: Sql, tmp_path: Path) -> None:
    """Through the file, the staged page and the chunk, and back out to be retried."""
    odd = [
        odd_records.with_raw(odd_records.of(1_000 + number), PLACES[number % len(PLACES)], value)
        for number, value in enumerate(VALUES * 2)
    ]
    long = odd_records.with_raw(odd_records.of(1), "email", b'"%s"' % (b"x" * TEN_MEGABYTES))
    long_and_odd = odd_records.with_raw(odd_records.of(2), "dob", b'"%s"' % (b"x" * TEN_MEGABYTES))
    found = [one for pair in zip(odd, users(len(odd)), strict=True) for one in pair]

    counts = load(stage(tmp_path, [*found, long, long_and_odd], chunk_size=50))

    total = len(found) + 2
    assert counts.imported + counts.rejected + counts.skipped == total
    assert counts.skipped == 0
    assert sql.value("SELECT count(*) FROM random_users") == counts.imported
    assert sql.value("SELECT count(*) FROM errors") == counts.rejected
    ids = [user["login"]["uuid"] for user in users(len(odd))]
    assert sql.value("SELECT count(*) FROM random_users WHERE id = ANY(%s::uuid[])", ids) == len(
        ids
    )
    assert retrying.retry(None) == Counts(rejected=counts.rejected)
    assert sql.value("SELECT count(*) FROM errors") == counts.rejected


@pytest.mark.parametrize("value", [b"NaN", b"01", b"[1,]", b"tru"])
def test_a_document_that_breaks_is_refused_with_its_place(tmp_path: Path, value: bytes) -> None:
    whole = answer_of(users(3))
    file = tmp_path / "answer.json"
    file.write_bytes(whole.replace(b'"gender":"', b'"gender":' + value + b',"x":"', 1))

    with pytest.raises(SourceError, match=r"answer.json: .*byte \d+"):
        list(pages.read_records(SOURCE, file))
