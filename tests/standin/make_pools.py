"""Draws names and places from Faker's locales: nations.toml and Faker make pools.json.

    python -m tests.standin.make_pools

Only this script needs Faker; the stand-in reads pools.json, so that its users stay the same
whichever release of Faker is installed. A new release may give other pools, and with them other
data files: commit both together.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from faker import Faker
from faker.decode import unidecode

HERE = Path(__file__).parent

DRAWN = {
    "male": (["first_name_male"], 80),
    "female": (["first_name_female"], 80),
    "last": (["last_name"], 110),
    "streets": (["street_name"], 80),
    "cities": (["city"], 80),
    "states": (["state", "administrative_unit", "province", "region", "county"], 50),
}
"""Faker's methods, of which a locale has the first or another, and the values wanted at most."""

LONGEST = 56
"""Characters: the API's longest street name."""


def main() -> None:
    nations = tomllib.loads((HERE / "nations.toml").read_text("utf-8"))
    pools = {code: _pool(code, nation) for code, nation in nations.items()}
    text = json.dumps(pools, ensure_ascii=False, indent=0)
    (HERE / "pools.json").write_text(text + "\n", "utf-8")


def _pool(code: str, nation: dict[str, Any]) -> dict[str, Any]:
    fakers = [Faker(locale) for locale in nation.pop("locales")]
    for faker in fakers:
        faker.seed_instance(code)
    latin = _latin_of_ukrainian if code == "UA" else str
    for key, (methods, wanted) in DRAWN.items():
        if key not in nation:
            nation[key] = _draw(fakers, methods, wanted, latin)
    for key in ("male", "female", "last"):
        nation[key] = {name: _mail_part(name) for name in nation[key]}
    return nation


def _draw(
    fakers: list[Faker], methods: Iterable[str], wanted: int, latin: Callable[[str], str]
) -> list[str]:
    """Distinct values, in equal parts from each locale; fewer where a locale has fewer."""
    found: list[str] = []
    for faker in fakers:
        method = next(getattr(faker, name) for name in methods if hasattr(faker, name))
        values = (latin(method()) for _ in range(20 * wanted))
        distinct = dict.fromkeys(value for value in values if len(value) <= LONGEST)
        found += list(distinct)[: wanted // len(fakers)]
    return list(dict.fromkeys(found))


def _latin_of_ukrainian(text: str) -> str:
    """The API has Ukrainians in Latin letters."""
    return unidecode(text).replace("'", "’")


def _mail_part(name: str) -> str:
    """A name as it stands in an address: ASCII, lower case."""
    return re.sub(r"[^a-z0-9'-]", "", unidecode(name).lower()) or "x"


if __name__ == "__main__":
    main()
