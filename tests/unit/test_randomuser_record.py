"""A record of the API and its row: every field, and each way of not having the API's shape."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from models import RandomUsers
from randomuser import SOURCE
from source import RecordError
from tests.support.users import FIELDS, User, encode, row_of, users, with_value, without

LINEAGE = {"import_id", "imported_at"}

NULLABLE = {"id.value"}

IMPOSSIBLE: dict[str, list[Any]] = {
    "location.coordinates.latitude": ["90.0001", "-91", "north", "", "nan", "inf", "1e400"],
    "location.coordinates.longitude": ["180.5", "-181", "east", "", "nan"],
    "location.street.number": [2**31, -(2**31) - 1, 1.5],
    "dob.date": [
        "1990-02-31T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "1990-01-01T25:00:00Z",
        "1990-01-01T00:00:00",
        "yesterday",
    ],
    "registered.date": ["2010-13-01T00:00:00Z", "2010-01-01"],
    "dob.age": ["70", 2**31],
    "login.uuid": ["8f64390e", "8f64390e-731d-46f9-ac64-b733865d513g", ""],
    "location.city": ["with\0nul"],
}


@pytest.fixture
def user() -> User:
    return users(1)[0]


def fault_of(record: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        SOURCE.decode(record)
    return caught.value.path


def test_every_column_but_the_lineage_has_its_field() -> None:
    assert set(RandomUsers.__table__.columns.keys()) - LINEAGE == set(FIELDS)


def test_every_field_becomes_its_column() -> None:
    for user in users(5_000):
        assert msgspec.structs.asdict(SOURCE.decode(encode(user))) == row_of(user)


@pytest.mark.parametrize("path", [*FIELDS.values(), "name", "location.street", "login", "id"])
def test_a_missing_field_is_named(user: User, path: str) -> None:
    assert fault_of(encode(without(user, path))) == f"$.{path}"


@pytest.mark.parametrize("path", [path for path in FIELDS.values() if path not in NULLABLE])
@pytest.mark.parametrize("value", [None, [], {}, True], ids=["null", "list", "object", "true"])
def test_a_mistyped_field_is_named(user: User, path: str, value: Any) -> None:
    assert fault_of(encode(with_value(user, path, value))) == f"$.{path}"


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in IMPOSSIBLE.items() for value in values]
)
def test_an_impossible_value_is_named(user: User, path: str, value: Any) -> None:
    assert fault_of(encode(with_value(user, path, value))) == f"$.{path}"


@pytest.mark.parametrize("limit", ["90", "-90", "0", "-0.0"])
def test_the_poles_are_places(user: User, limit: str) -> None:
    changed = with_value(user, "location.coordinates.latitude", limit)

    assert SOURCE.decode(encode(changed)).latitude == float(limit)


def test_a_postcode_may_be_a_number_or_text(user: User) -> None:
    for postcode in (10243, "J3Y 1N6", "0012"):
        changed = with_value(user, "location.postcode", postcode)
        assert SOURCE.decode(encode(changed)).postcode == str(postcode)


def test_an_unknown_field_is_no_fault(user: User) -> None:
    assert SOURCE.decode(encode({**user, "shoe_size": 43})) == SOURCE.decode(encode(user))


def test_the_reason_does_not_hold_the_value(user: User) -> None:
    changed = with_value(user, "location.coordinates.latitude", "secret-place")

    with pytest.raises(RecordError) as caught:
        SOURCE.decode(encode(changed))

    assert "secret-place" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "null", "list", "truncated", "text", "bytes", "deep-list", "deep-object"],
)
def test_what_is_no_object_is_refused_as_a_whole(record: bytes) -> None:
    assert fault_of(record) == "$"


def test_half_a_surrogate_pair_is_named(user: User) -> None:
    record = encode(with_value(user, "name.first", "here")).replace(b'"here"', b'"\\ud800"')

    assert fault_of(record) == "$.name.first"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_a_number_that_is_none_is_named(user: User, number: str) -> None:
    record = encode(with_value(user, "dob.age", 4711)).replace(b"4711", number.encode())

    assert fault_of(record) == "$.dob.age"


def test_the_key_of_a_broken_record_still_shows(user: User) -> None:
    assert SOURCE.identify(encode(without(user, "name"))) == UUID(user["login"]["uuid"])
    assert SOURCE.identify(encode(without(user, "login"))) is None
    assert SOURCE.identify(b"{") is None
