"""No record, whatever its form, keeps its password."""

import json
from collections.abc import Callable

import pytest

from randomuser import SOURCE
from source import RecordError
from tests.support.users import encode, users, with_value

SECRET = "hunter2secret"

RECORD = encode(with_value(users(1)[0], "login.password", SECRET))
FIELD = f'"password":"{SECRET}"'.encode()

VARIANTS = {
    "as the API writes it": RECORD,
    "with spaces": RECORD.replace(FIELD, FIELD.replace(b":", b" : ")),
    "indented": json.dumps(json.loads(RECORD), indent=2).encode(),
    "last in its object": b'{"login":{"uuid":"x",' + FIELD + b"}}",
    "alone in its object": b'{"login":{' + FIELD + b"}}",
    "twice": RECORD.replace(FIELD, FIELD + b"," + FIELD),
    "at the top": b"{" + FIELD + b"}",
    "in a list": b"[{" + FIELD + b"}]",
    "in upper case": RECORD.replace(b"password", b"PASSWORD"),
    "with an escaped letter": RECORD.replace(b"password", b"p\\u0061ssword"),
    "all letters escaped": RECORD.replace(
        b"password", b"\\u0070\\u0061\\u0073\\u0073\\u0077\\u006f\\u0072\\u0064"
    ),
    "with an escaped quote in it": RECORD.replace(SECRET.encode(), rf"a\"{SECRET}".encode()),
    "a number": RECORD.replace(FIELD, b'"password":12345678987'),
    "a list": RECORD.replace(FIELD, f'"password":["{SECRET}"]'.encode()),
    "truncated after it": RECORD[: RECORD.find(FIELD) + len(FIELD) + 5],
    "truncated within it": RECORD[: RECORD.find(FIELD) + len(FIELD) - 3],
    "with a bad byte before it": RECORD.replace(b'"gender"', b'"\xff"'),
    "with a bad byte in it": RECORD.replace(b"hunter2", b"hunter2\xff"),
    "with single quotes": RECORD.replace(b'"', b"'"),
    "after rubbish": b"rubbish " + RECORD,
    "a list in what is no JSON": RECORD.replace(FIELD, f'"password":["x","{SECRET}"]'.encode())[
        :-1
    ],
    "an object in what is no JSON": RECORD.replace(
        FIELD, f'"password":{{"a":"x","b":"{SECRET}"}}'.encode()
    )[:-1],
    "in UTF-16": RECORD.decode().encode("utf-16"),
    "in a line of UTF-16": RECORD.decode().encode("utf-16-le")[1:],
    "in UTF-32": RECORD.decode().encode("utf-32"),
    "too deep": b"[" * 100_000 + RECORD,
}


Strip = Callable[[bytes], bytes]


def alone(record: bytes) -> bytes:
    return SOURCE.without_secrets(record)


def among_others(record: bytes) -> bytes:
    others = [encode(user) for user in users(30)]
    safe = SOURCE.all_without_secrets([*others, record, *others])
    assert len(safe) == 61
    return safe[30]


either_way = pytest.mark.parametrize("strip", [alone, among_others])


@either_way
@pytest.mark.parametrize("record", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_password_is_gone(strip: Strip, record: bytes) -> None:
    kept = strip(record)

    assert SECRET[-8:].encode() not in kept.replace(b"\0", b"")
    assert b"12345678987" not in kept


@either_way
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_what_is_no_utf_8_is_still_rejected(strip: Strip, encoding: str) -> None:
    """Its letters alone are valid JSON, but not what came."""
    with pytest.raises(RecordError):
        SOURCE.decode(strip(RECORD.decode().encode(encoding)))


@either_way
def test_all_else_stays_as_it_came(strip: Strip) -> None:
    assert strip(RECORD) == RECORD.replace(FIELD + b",", b"")


def test_the_row_is_the_same_without_it() -> None:
    records = [encode(user) for user in users(200)]

    safe = SOURCE.all_without_secrets(records)

    assert safe == [SOURCE.without_secrets(record) for record in records]
    assert [SOURCE.decode(record) for record in safe] == [SOURCE.decode(one) for one in records]


@either_way
def test_a_user_of_that_name_stays(strip: Strip) -> None:
    record = encode(with_value(users(1)[0], "login.username", "password"))

    assert SOURCE.decode(strip(record)).username == "password"


@either_way
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"x", b",", b"]", b"}", b'"', b"\\", b":"])
def test_a_byte_changed_around_the_password_gives_nothing_away(strip: Strip, byte: bytes) -> None:
    text = encode(with_value(users(1)[0], "login.password", "hunter2-hunter2"))
    key = text.index(b'"password"')
    value = text.index(b"hunter2")
    around = [key, *range(key + len(b'"password'), value), value + len(b"hunter2-hunter2")]
    for at in around:
        changed = text[:at] + byte + text[at + 1 :]
        assert b"hunter2-h" not in strip(changed), changed[key:value]
