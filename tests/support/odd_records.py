"""Records as no API should send them: one user, with one field or the text itself made odd."""

import json
from dataclasses import dataclass
from uuid import UUID

from hypothesis import strategies as st

from tests.support.users import FIELDS, User, encode, users, with_value, without

PASSWORD = "hunter2-hunter2"
"""In every record, and nowhere else afterwards."""

OBJECTS = ("name", "location", "location.street", "location.coordinates", "login", "dob", "picture")
PLACES = (*FIELDS.values(), *OBJECTS, "login.password")
PLACEHOLDER = '"\\u0001here\\u0001"'

DEEP = 100_000
"""Levels; more than any JSON parser is asked to follow."""

VALUES: tuple[bytes, ...] = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b'""', b'"x"', b"[]", b"{}", b'["a"]', b'{"a": 1}'),
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"1e-20000",
        b"9" * 5_000,
        b"2147483648",
    ),
    *(b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"'),
    *(b'"\xff\xfe"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\x07"', b'"\xe2\x80\xae"', b'"\\"'),
    *(b'"0000-01-01T00:00:00.000Z"', b'"10000-01-01T00:00:00.000Z"', b'"1990-02-31T00:00:00.000Z"'),
    *(b'"1990-06-30T23:59:60.000Z"', b'"1990-06-30T23:59:60"', b'"0001-01-01T00:00:00+14:00"'),
    *(b'"9999-12-31T23:59:59-14:00"', b'"1990-01-01T00:00:00+99:99"', b"1e9", b'"nan"', b'"1e999"'),
    *(b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * 500 + b"]" * 500),
    *(b'{"\\u0000": NaN}', b'{"\\ud800": NaN}', b"[" * 900 + b"NaN" + b"]" * 900),
    *(b"undefined", b"'x'", b"0x10", b"01", b"+1", b".5", b"1.", b"tru", b"[1,]", b'{"a"}', b"//"),
)


@dataclass(frozen=True)
class OddRecord:
    """A record, and the field that was made odd; None where it is the text as a whole."""

    text: bytes
    place: str | None


def of(number: int) -> User:
    """A whole user, with an id and a password like no other's."""
    user = with_value(users(1)[0], "login.uuid", str(UUID(int=number)))
    return with_value(user, "login.password", f"{PASSWORD}-{number}")


def with_raw(user: User, place: str, raw: bytes) -> bytes:
    """The record with this text as the value of a field, valid JSON or not."""
    marked = json.dumps(with_value(user, place, json.loads(PLACEHOLDER))).encode()
    return marked.replace(json.dumps(json.loads(PLACEHOLDER)).encode(), raw)


@st.composite
def odd_records(draw: st.DrawFn) -> list[OddRecord]:
    """Several records, each whole or odd, no two of one user."""
    first = draw(st.integers(min_value=1, max_value=2**100))
    count = draw(st.integers(min_value=1, max_value=6))
    return [draw(_record(of(first + offset))) for offset in range(count)]


def _record(user: User) -> st.SearchStrategy[OddRecord]:
    place = st.sampled_from(PLACES)
    text = encode(user)
    return st.one_of(
        st.just(OddRecord(text, None)),
        place.map(lambda name: OddRecord(encode(without(user, name)), name)),
        st.builds(
            lambda name, raw: OddRecord(with_raw(user, name, raw), name),
            place,
            st.sampled_from(VALUES),
        ),
        st.builds(
            lambda name, new: OddRecord(encode(with_value(user, name, new)), name), place, _json
        ),
        st.builds(
            lambda name, size: OddRecord(with_raw(user, name, b'"%s"' % (b"x" * size)), name),
            place,
            st.sampled_from([1, 300, 100_000]),
        ),
        st.builds(lambda at: OddRecord(text[: 1 + at % len(text)], None), st.integers(0, 10_000)),
        st.builds(
            lambda at, byte: OddRecord(_with_byte(text, at, byte), None),
            st.integers(0, 10_000),
            st.integers(0, 255),
        ),
        st.just(OddRecord(b'{"gender": "x", ' + text[1:], None)),
        st.just(OddRecord(text[:-1] + b', "gender": 7}', None)),
        st.builds(
            lambda key, raw: OddRecord(with_raw({**user, key: 1}, key, raw), None),
            st.text(min_size=1).filter(
                lambda key: "." not in key and key not in user and _is_text(key)
            ),
            st.sampled_from(VALUES),
        ),
    )


def _is_text(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().filter(_is_text),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5).filter(_is_text), inner, max_size=3)
    ),
    max_leaves=5,
)


def _with_byte(text: bytes, at: int, byte: int) -> bytes:
    at %= len(text)
    key = text.index(b"password")
    if key <= at < key + len(b"password"):
        return text  # Under another name it is no password that anybody could know of.
    # A line's end would make two records of it.
    return text[:at] + (bytes([byte]) if byte not in b"\r\n" else b" ") + text[at + 1 :]
