"""The users that are imported: lines of JSON from the API's stand-in, the same ones each time."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.standin.query import Query
from tests.standin.users import Users

SEED = "benchmark"
PAGE = 5_000

REFUSED = "refused"
"""The username of the users that REFUSE keeps out of the table."""

REFUSE = f"ALTER TABLE random_users ADD CONSTRAINT not_refused CHECK (username <> '{REFUSED}')"


def write(path: Path, count: int, bad: float = 0) -> None:
    """Writes `count` users, one a line, of which a share of `bad`, evenly spread, can't go in.

    One half of the bad ones lacks a field; the other is well formed, and only REFUSE keeps it out.
    """
    every = round(1 / bad) if bad else count + 1
    with path.open("w", encoding="utf-8") as file:
        for number, user in enumerate(islice(_users(), count), 1):
            print(user if number % every else _spoilt(user, number // every), file=file)


def bad_of(count: int, bad: float) -> int:
    """How many of `count` users `write` makes bad."""
    return count // round(1 / bad) if bad else 0


def _users() -> Iterator[str]:
    users = Users()
    number = 0
    while True:
        number += 1
        yield from users.page(Query(SEED, number, PAGE)).users


def _spoilt(user: str, number: int) -> str:
    record = json.loads(user)
    if number % 2:
        record["login"]["username"] = REFUSED
    else:
        del record["dob"]
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
