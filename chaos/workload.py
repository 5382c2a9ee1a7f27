"""A round's users: where they are imported from, bad and repeated ones among them."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaos.plan import RoundPlan
from randomuser import MAX_RESULTS
from tests.standin import Standin
from tests.standin.faults import BY_NAME, ReplaceUsers
from tests.standin.query import Query
from tests.standin.rate_limit import RateLimit
from tests.standin.users import Users

UNLIMITED = RateLimit(None)


@dataclass(frozen=True)
class Workload:
    """What an import is asked for, by which options and variables, and what it should find.

    `records` stand by their positions in the import, as the source sends them; `known` are those
    of them that are in the table before. `chunks` is how many the import should make of them.
    """

    options: Sequence[str]
    variables: Mapping[str, str]
    records: Sequence[bytes]
    known: Sequence[bytes]
    chunks: int


@contextmanager
def offered(plan: RoundPlan, folder: Path) -> Iterator[Workload]:
    """The round's users, in a file in `folder` or at a stand-in for the API while it is entered."""
    draw = Random(f"{plan.seed}/{plan.number}/users")
    size = _page_size(plan)
    records = _fresh_users(plan, size)
    known = [record.encode() for record in draw.sample(records, plan.known)]
    spoiled = _spoiled(plan, draw, records)
    for position, record in spoiled.items():
        records[position] = record
    encoded = [record.encode() for record in records]
    chunks = sum(
        math.ceil(min(size, plan.users - start) / plan.chunk_size)
        for start in range(0, plan.users, size)
    )
    if plan.origin == "file":
        path = folder / "users.jsonl"
        path.write_bytes(b"".join(record + b"\n" for record in encoded))
        yield Workload(["--input", str(path)], {}, encoded, known, chunks)
        return
    with Standin(rate_limit=UNLIMITED) as api:
        for name in plan.api_faults:
            api.script(BY_NAME[name])
        for page, replaced in _by_page(spoiled, size).items():
            api.script(ReplaceUsers(replaced), times=None, pages=[page])
        options = ["--count", str(plan.users), "--seed", _api_seed(plan)]
        yield Workload(options, {"RANDOMUSER_URL": api.url}, encoded, known, chunks)


def _page_size(plan: RoundPlan) -> int:
    """Of a file's pages and of those that are fetched, which are all equally large."""
    if plan.origin == "file":
        return MAX_RESULTS
    return math.ceil(plan.users / math.ceil(plan.users / MAX_RESULTS))


def _fresh_users(plan: RoundPlan, size: int) -> list[str]:
    users, pages = Users(), math.ceil(plan.users / size)
    found: list[str] = []
    for page in range(1, pages + 1):
        found += users.page(Query(_api_seed(plan), page, size)).users
    return found[: plan.users]


def _api_seed(plan: RoundPlan) -> str:
    return f"chaos{plan.seed}x{plan.number}"


def _spoiled(plan: RoundPlan, draw: Random, records: Sequence[str]) -> dict[int, str]:
    """Records by their positions, replaced by bad ones or by copies of others."""
    positions = draw.sample(range(len(records)), plan.rejected + plan.repeated)
    ways = [*SPOIL_AS_JSON, *SPOIL_AS_TEXT] if plan.origin == "file" else SPOIL_AS_JSON
    spoiled = {
        position: draw.choice(ways)(records[position]) for position in positions[: plan.rejected]
    }
    sound = sorted(set(range(len(records))) - set(positions))
    copies = {position: records[draw.choice(sound)] for position in positions[plan.rejected :]}
    return spoiled | copies


def _by_page(spoiled: Mapping[int, str], size: int) -> dict[int, dict[int, str]]:
    pages: dict[int, dict[int, str]] = {}
    for position, record in spoiled.items():
        pages.setdefault(position // size + 1, {})[position % size] = record
    return pages


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def spoil(record: str) -> str:
        user = json.loads(record)
        change(user)
        return json.dumps(user)

    return spoil


SPOIL_AS_JSON: Sequence[Callable[[str], str]] = (
    _changed(lambda user: user.pop("email")),
    _changed(lambda user: user["login"].update(uuid=None)),
    _changed(lambda user: user["dob"].update(date="1999-02-31T00:00:00.000Z")),
    _changed(lambda user: user["dob"].update(age="old")),
    _changed(lambda user: user["location"].update(city="Nul\0ville")),
    _changed(lambda user: user["location"]["coordinates"].update(latitude="90.5")),
    _changed(lambda user: user["location"]["street"].update(number=2**31)),
    lambda _record: "[]",
)
"""Ways to make a bad record that leave it a JSON value: a page of the API stays one."""

SPOIL_AS_TEXT: Sequence[Callable[[str], str]] = (
    lambda record: record[: len(record) // 2],
    lambda record: record.replace('"gender":"', '"gender":"\\ud800', 1),
    lambda record: record.replace('"age":', '"age":1e400,"was":', 1),
    lambda _record: "no JSON at all",
)
