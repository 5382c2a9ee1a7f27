"""Users as the API sends them, whole and broken, and the row that each has to become."""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support.programs import PROJECT

User = dict[str, Any]

FIELDS: Mapping[str, str] = {
    "id": "login.uuid",
    "gender": "gender",
    "title": "name.title",
    "first_name": "name.first",
    "last_name": "name.last",
    "street_number": "location.street.number",
    "street_name": "location.street.name",
    "city": "location.city",
    "state": "location.state",
    "country": "location.country",
    "postcode": "location.postcode",
    "latitude": "location.coordinates.latitude",
    "longitude": "location.coordinates.longitude",
    "timezone_offset": "location.timezone.offset",
    "timezone_description": "location.timezone.description",
    "email": "email",
    "username": "login.username",
    "salt": "login.salt",
    "md5": "login.md5",
    "sha1": "login.sha1",
    "sha256": "login.sha256",
    "date_of_birth": "dob.date",
    "age": "dob.age",
    "registered_at": "registered.date",
    "phone": "phone",
    "cell": "cell",
    "id_name": "id.name",
    "id_value": "id.value",
    "picture_large": "picture.large",
    "picture_medium": "picture.medium",
    "picture_thumbnail": "picture.thumbnail",
    "nat": "nat",
}
"""Of each column, the field that it holds."""

CONVERTED: Mapping[str, Any] = {
    "id": UUID,
    "postcode": str,
    "latitude": float,
    "longitude": float,
    "date_of_birth": datetime.fromisoformat,
    "registered_at": datetime.fromisoformat,
}
"""Columns that hold their field as another type."""


@cache
def _users_of(path: Path) -> tuple[User, ...]:
    return tuple(json.loads(path.read_bytes())["results"])


def users(count: int) -> list[User]:
    """The first of the users in `data/data.json.5000`, to be changed at will."""
    return deepcopy(list(_users_of(PROJECT / "data" / "data.json.5000")[:count]))


def value_at(user: User, path: str) -> Any:
    value: Any = user
    for name in path.split("."):
        value = value[name]
    return value


def with_value(user: User, path: str, value: Any) -> User:
    """A copy with one field changed."""
    changed = deepcopy(user)
    *parents, name = path.split(".")
    inner = value_at(changed, ".".join(parents)) if parents else changed
    inner[name] = value
    return changed


def without(user: User, path: str) -> User:
    """A copy without one field."""
    changed = with_value(user, path, None)
    *parents, name = path.split(".")
    del (value_at(changed, ".".join(parents)) if parents else changed)[name]
    return changed


def row_of(user: User) -> dict[str, Any]:
    """The columns that random_users has to hold for a user, lineage aside."""
    return {
        column: CONVERTED.get(column, lambda value: value)(value_at(user, path))
        for column, path in FIELDS.items()
    }


def encode(user: User) -> bytes:
    """As the API writes it."""
    return json.dumps(user, ensure_ascii=False, separators=(",", ":")).encode()


def answer_of(found: Iterable[User]) -> bytes:
    """An answer of the API with these users."""
    results = list(found)
    info = {"seed": "test", "results": len(results), "page": 1, "version": "1.4"}
    return encode({"results": results, "info": info})


def lines_of(found: Iterable[User | bytes]) -> bytes:
    """One user a line; `bytes` stay as they are."""
    return b"".join((u if isinstance(u, bytes) else encode(u)) + b"\n" for u in found)
