"""What a client asks for, and what the service makes of it: nothing is refused."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

NATIONALITIES = (
    "AU", "BR", "CA", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE",
    "IN", "IR", "MX", "NL", "NO", "NZ", "RS", "TR", "UA", "US",
)  # fmt: skip

MAX_RESULTS = 5_000
MAX_PAGE = 10_000

FIELDS = (
    "gender", "name", "location", "email", "login", "dob", "registered",
    "phone", "cell", "id", "picture", "nat",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """What the service answers, which may be something else than it was asked."""

    seed: str
    page: int = 1
    results: int = 1
    nationalities: tuple[str, ...] = NATIONALITIES
    fields: tuple[str, ...] = FIELDS
    info: bool = True


def parse(parameters: Mapping[str, str]) -> Query:
    """The service's silent fallbacks: 1 user, page 1, all nationalities, a random seed."""
    return Query(
        seed=parameters.get("seed") or secrets.token_hex(8),
        page=_within(parameters.get("page"), MAX_PAGE),
        results=_within(parameters.get("results"), MAX_RESULTS),
        nationalities=_nationalities(parameters.get("nat", "")),
        fields=_fields(parameters.get("inc", ""), parameters.get("exc", "")),
        info="noinfo" not in parameters,
    )


def _within(text: str | None, most: int) -> int:
    number = int(text) if text and re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 1
    return number if 1 <= number <= most else 1


def _nationalities(text: str) -> tuple[str, ...]:
    """One unknown nationality among several makes it all of them."""
    asked = _names(text.upper())
    return asked if asked and set(asked) <= set(NATIONALITIES) else NATIONALITIES


def _fields(included: str, excluded: str) -> tuple[str, ...]:
    wanted = set(_names(included.lower()) or FIELDS) - set(_names(excluded.lower()))
    return tuple(field for field in FIELDS if field in wanted)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
