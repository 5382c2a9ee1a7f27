"""randomuser.me, version 1.4 of its API: how it pages, what its records hold, which row they make.

Facts are of https://randomuser.me/documentation and of the service's published server.
"""

import math
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

import client
import decoding
from client import Unavailable, WrongAnswer
from models import RandomUsers
from source import Facet, Page, Query, RecordError, Row, Source, SourceError

MAX_RESULTS = 5_000
"""A page asked for more users has one user, silently."""

MAX_PAGES = 10_000
"""A page beyond is page 1, silently."""

LOOKED_AT_ONCE = 50
"""Records: as many as the processor's cache holds."""

Int4 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Name(msgspec.Struct, gc=False):
    title: str
    first: str
    last: str


class Street(msgspec.Struct, gc=False):
    number: Int4
    name: str


class Coordinates(msgspec.Struct, gc=False):
    latitude: str
    longitude: str


class Timezone(msgspec.Struct, gc=False):
    offset: str
    description: str


class Location(msgspec.Struct, gc=False):
    street: Street
    city: str
    state: str
    country: str
    postcode: int | str
    coordinates: Coordinates
    timezone: Timezone


class Login(msgspec.Struct, gc=False):
    uuid: UUID
    username: str
    salt: str
    md5: str
    sha1: str
    sha256: str


class Moment(msgspec.Struct, gc=False):
    date: Timestamp
    age: Int4


class NationalId(msgspec.Struct, gc=False):
    name: str
    value: str | None


class Picture(msgspec.Struct, gc=False):
    large: str
    medium: str
    thumbnail: str


class User(msgspec.Struct, gc=False):
    """A record of the API. Every field is always there; unknown ones are ignored."""

    gender: str
    name: Name
    location: Location
    email: str
    login: Login
    dob: Moment
    registered: Moment
    phone: str
    cell: str
    id: NationalId
    picture: Picture
    nat: str


class UserRow(Row, frozen=True, gc=False):
    """A row of random_users, named as its columns."""

    id: UUID
    gender: str
    title: str
    first_name: str
    last_name: str
    street_number: int
    street_name: str
    city: str
    state: str
    country: str
    postcode: str
    latitude: float
    longitude: float
    timezone_offset: str
    timezone_description: str
    email: str
    username: str
    salt: str
    md5: str
    sha1: str
    sha256: str
    date_of_birth: datetime
    age: int
    registered_at: datetime
    phone: str
    cell: str
    id_name: str
    id_value: str | None
    picture_large: str
    picture_medium: str
    picture_thumbnail: str
    nat: str


class Info(msgspec.Struct):
    """What the server says that it did, which may be something else than it was asked."""

    seed: str
    results: int
    page: int


class Answer(msgspec.Struct):
    """An answer of the API, its records still text: each is checked on its own, later."""

    results: list[msgspec.Raw] | None = None
    info: Info | None = None
    error: str | None = None


class KeyLogin(msgspec.Struct):
    uuid: UUID


class Key(msgspec.Struct):
    """The least of a record that tells whose it is."""

    login: KeyLogin


_answers = msgspec.json.Decoder(Answer)
_users = msgspec.json.Decoder(User)
_keys = msgspec.json.Decoder(Key)


class RandomUser(Source):
    name = "randomuser"
    model = RandomUsers
    row_type = UserRow
    url_variable = "RANDOMUSER_URL"
    default_url = "https://randomuser.me/api/1.4/"
    page_size = MAX_RESULTS
    default_count = MAX_RESULTS
    is_cached = True
    parameters = ("seed", "nat")
    first_cursor = "1"
    facets = (Facet("nat", "nationality"), Facet("age", "age", step=5))

    def pinned(self, query: Query) -> Query:
        """With a seed: the same seed, page and results give the same users."""
        if _pages(query) > MAX_PAGES:
            raise SourceError(
                f"{_count(query):,} users are more than one seed of the API gives "
                f"({MAX_PAGES:,} pages of {MAX_RESULTS:,}); import them in parts, by seeds"
            )
        seed = query.parameters.get("seed") or secrets.token_hex(8)
        return Query(query.url, query.count, {**query.parameters, "seed": seed})

    def fetch(self, query: Query, cursor: str) -> Page:
        """A page by its number: all have the same size, or they would overlap."""
        number, pages = int(cursor), _pages(query)
        size = math.ceil(_count(query) / pages)
        wanted = min(size, _count(query) - (number - 1) * size)
        asked = {**query.parameters, "results": str(size), "page": str(number)}

        def parse(body: bytes) -> Page:
            answer = _answer(body)
            _check_page(answer, query, size, number)
            records = [bytes(record) for record in answer.results or ()]
            return Page(records[:wanted], str(number + 1) if number < pages else None, body)

        return client.get(query.url, asked, parse)

    def split(self, body: bytes) -> list[bytes]:
        answer = _answer(body)
        return [bytes(record) for record in answer.results or ()]

    def without_secrets(self, record: bytes) -> bytes:
        """The record without `login.password`, which the API sends in plain text."""
        return _without_password(record)

    def all_without_secrets(self, records: Sequence[bytes]) -> list[bytes]:
        """Looks for what is left of a password in many records at once: a third quicker."""
        safe: list[bytes] = []
        for start in range(0, len(records), LOOKED_AT_ONCE):
            some = records[start : start + LOOKED_AT_ONCE]
            cut = [_PASSWORD_FIELD.sub(b"", record, count=1) for record in some]
            is_safe = not _may_hold_password(b"".join(cut))
            safe += cut if is_safe else map(self.without_secrets, some)
        return safe

    def identify(self, record: bytes) -> UUID | None:
        key = decoding.decode_if_whole(_keys, record)
        return None if key is None else key.login.uuid

    def decode(self, record: bytes) -> UserRow:
        return _row(decoding.decode(_users, record))


def _pages(query: Query) -> int:
    return math.ceil(_count(query) / MAX_RESULTS)


def _count(query: Query) -> int:
    """As large as is asked for: the API makes users up without end."""
    return query.count or MAX_RESULTS


def _answer(body: bytes) -> Answer:
    """Raises Unavailable for what a failing service sends in place of an answer."""
    answer = client.decode(_answers, body, RandomUser.name)
    if answer.error is not None:
        raise Unavailable(f"the API says: {answer.error}")
    if answer.results is None:
        raise WrongAnswer(f"that JSON is no answer of {RandomUser.name}: it has no `results`")
    return answer


def _check_page(answer: Answer, query: Query, size: int, number: int) -> None:
    """The server answers wrong parameters with other users than asked for, and says so here."""
    info = answer.info
    if info is None:
        raise WrongAnswer("the answer lacks `info`, so nothing tells which page it is")
    did = (info.seed, info.page, info.results, len(answer.results or ()))
    asked = (query.parameters["seed"], number, size, size)
    if did != asked:
        raise WrongAnswer(
            "asked for seed {}, page {}, {} users; the API answered "
            "seed {}, page {}, {} users ({} sent)".format(*asked[:3], *did)
        )


def _row(user: User) -> UserRow:
    name, location, login, picture = user.name, user.location, user.login, user.picture
    street, timezone = location.street, location.timezone
    coordinates = location.coordinates
    return UserRow(
        login.uuid,
        user.gender,
        name.title,
        name.first,
        name.last,
        street.number,
        street.name,
        location.city,
        location.state,
        location.country,
        str(location.postcode),
        _degrees(coordinates.latitude, 90.0, "latitude"),
        _degrees(coordinates.longitude, 180.0, "longitude"),
        timezone.offset,
        timezone.description,
        user.email,
        login.username,
        login.salt,
        login.md5,
        login.sha1,
        login.sha256,
        user.dob.date,
        user.dob.age,
        user.registered.date,
        user.phone,
        user.cell,
        user.id.name,
        user.id.value,
        picture.large,
        picture.medium,
        picture.thumbnail,
        user.nat,
    )


def _degrees(text: str, limit: float, field: str) -> float:
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not -limit <= degrees <= limit:
        path = f"$.location.coordinates.{field}"
        raise RecordError(path, f"Expected a number from -{limit:.0f} to {limit:.0f}")
    return degrees


_PASSWORD_FIELD = re.compile(rb',"password":"[^"\\]*"(?=[,}])')
"""As the API writes it. What stands before must be fixed: a search for a choice is slow."""
_PASSWORD_LIKE = re.compile(
    # The word itself counts also where what has to follow it is broken.
    r"""(?:password["'\\]*\s*[^"'[{]{0,4}\s*"""
    # No second p within: one look at each letter is enough, however many p a record has.
    r"""|(?:p|\\u0070|\\u0050)[^:=p]{0,60}?(?:d|\\u0064|\\u0044)["'\\]*\s*[:=]\s*)"""
    r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|[\[{][^\]}]*[\]}]?)?[^,}\]]*""",
    re.IGNORECASE | re.DOTALL,
)


def _without_password(record: bytes) -> bytes:
    """Cuts the field out of the text where it stands as the API writes it: decoding every record
    to drop one field would cost ten times as much.
    """
    cut = _PASSWORD_FIELD.sub(b"", record, count=1)
    if not _may_hold_password(cut):
        return cut
    try:
        return msgspec.json.encode(_drop_passwords(msgspec.json.decode(record)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _without_password_like(record)


def _may_hold_password(text: bytes) -> bool:
    """Whether the word is anywhere in it: plain, its letters escaped, or with NULs among them."""
    is_escaped = b"\\" in text and b"\\u00" in text
    return is_escaped or b"\0" in text or b"assword" in text.lower()


def _without_password_like(record: bytes) -> bytes:
    """Of a record that is no JSON, and is none afterwards either."""
    # UTF-16 has a NUL beside each Latin letter. One is left, which no JSON may have.
    letters = record.replace(b"\0", b"")
    if len(letters) < len(record):
        letters += b"\0"
    text = letters.decode("utf-8", "backslashreplace")
    # What was a member stays one, so that the reason can still name the field at fault.
    return _PASSWORD_LIKE.sub('(password)": ""', text).encode()


def _drop_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _drop_passwords(inner)
            for key, inner in value.items()
            if "password" not in key.casefold()
        }
    if isinstance(value, list):
        return [_drop_passwords(inner) for inner in value]
    return value


SOURCE = RandomUser()
