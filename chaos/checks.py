"""Is every user where it belongs, once, with the right values? The whole database is compared."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import DictRow

from chaos.expectation import Expectation
from chaos.server import EARLIER_IMPORT
from randomuser import UserRow
from rejects import error_id

SHOWN = 5
"""Of the users that are wrong in the same way, how many are named."""


@dataclass(frozen=True)
class Findings:
    """What is wrong. Users are lost when they are in neither table, doubled when they are in more
    than one place; every lost or doubled one is a violation, and so is everything else.
    """

    lost: int
    doubled: int
    violations: Sequence[str]


Database = psycopg.Connection[DictRow]


def check(database: Database, expected: Expectation) -> Findings:
    """Compares all tables with what is expected of one import, once nobody works any more."""
    found = [row["id"] for row in _all(database, "SELECT id FROM imports")]
    if len(found) != 1:
        return Findings(0, 0, [f"{len(found)} imports where there is one: {found}"])
    import_id = str(found[0])
    rows = {row["id"]: row for row in _all(database, "SELECT * FROM random_users")}
    errors = _all(database, "SELECT id, message FROM errors")
    lost, lost_violations = _lost(expected, rows, errors)
    doubled, doubled_violations = _doubled(expected, errors)
    violations = [
        *lost_violations,
        *doubled_violations,
        *_some("users that the source does not hold", rows.keys() - expected.rows.keys()),
        *_wrong_rows(expected, rows, import_id),
        *_wrong_errors(expected, errors, import_id),
        *_wrong_counters(database, expected, import_id),
        *_leftovers(database),
    ]
    return Findings(lost, doubled, violations)


def _lost(
    expected: Expectation, rows: dict[Any, DictRow], errors: Sequence[DictRow]
) -> tuple[int, list[str]]:
    users = expected.rows.keys() - rows.keys()
    rejects = expected.rejects.keys() - {error["message"]["position"] for error in errors}
    texts = [*_some("users lost", users), *_some("rejects lost, by position", rejects)]
    return len(users) + len(rejects), texts


def _doubled(expected: Expectation, errors: Sequence[DictRow]) -> tuple[int, list[str]]:
    places = Counter(error["message"]["position"] for error in errors)
    repeated = {position for position, count in places.items() if count > 1}
    stray = places.keys() - expected.rejects.keys()
    violations = [
        *_some("positions with several error rows", repeated),
        *_some("positions imported and among the errors too", stray),
    ]
    return len(repeated) + len(stray), violations


def _wrong_rows(expected: Expectation, rows: dict[Any, DictRow], import_id: str) -> list[str]:
    wrong = []
    for key in expected.rows.keys() & rows.keys():
        owner = EARLIER_IMPORT if key in expected.kept else import_id
        values = _values(expected.rows[key]) | {"import_id": owner}
        differing = [name for name, value in values.items() if rows[key][name] != value]
        if differing:
            wrong.append(f"{key} ({', '.join(differing)})")
    return _some("users with wrong values", wrong)


def _values(row: UserRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in UserRow.__struct_fields__}


def _wrong_errors(expected: Expectation, errors: Sequence[DictRow], import_id: str) -> list[str]:
    wrong = []
    for error in errors:
        message = error["message"]
        position = message["position"]
        reject = expected.rejects.get(position)
        if reject is None:
            continue
        shown = {
            "user_id": message["user_id"],
            "stage": message["stage"],
            "detail": message["error"]["detail"],
            "path": message["error"]["path"],
            "record": message["record"],
        }
        owned = message["import_id"] == import_id and error["id"] == error_id(import_id, position)
        if shown != reject or not owned:
            wrong.append(f"{position}: {shown}")
    return _some("error rows with wrong contents", wrong)


def _wrong_counters(database: Database, expected: Expectation, import_id: str) -> list[str]:
    this = _all(database, "SELECT * FROM imports")[0]
    chunks = _all(database, "SELECT * FROM chunks ORDER BY position")
    totals = asdict(expected.totals)
    shown = {name: this[name] for name in totals}
    sums = {name: sum(chunk[name] for chunk in chunks) for name in totals}
    starts = [*(chunk["position"] for chunk in chunks), expected.totals.users]
    ends = [0, *(chunk["position"] + chunk["users"] for chunk in chunks)]
    uneven = {chunk["chunk"] for chunk in chunks if chunk["users"] != _counted(chunk)}
    unloaded = {chunk["chunk"] for chunk in chunks if chunk["failed_at"] or not chunk["loaded_at"]}
    return [
        *([] if this["state"] == expected.state else [f"import {import_id} is {this['state']}"]),
        *([] if shown == totals else [f"the import counts {shown}, not {totals}"]),
        *([] if sums == totals else [f"its chunks count {sums}, not {totals}"]),
        *([] if starts == ends else ["the chunks don't cover each position once"]),
        *_some("chunks whose counts don't add up", uneven),
        *_some("chunks not loaded in a complete import", unloaded),
    ]


def _counted(chunk: DictRow) -> int:
    return sum(int(chunk[name]) for name in ("imported", "updated", "skipped", "rejected"))


def _leftovers(database: Database) -> list[str]:
    staged = _all(database, "SELECT page FROM staged_pages")
    unfinished = _all(
        database,
        "SELECT workflow_uuid, status FROM dbos.workflow_status "
        "WHERE status NOT IN ('SUCCESS', 'CANCELLED')",
    )
    return [
        *_some("staged pages left", [row["page"] for row in staged]),
        *_some(
            "workflows left", [f"{row['workflow_uuid']} ({row['status']})" for row in unfinished]
        ),
    ]


def _some(what: str, found: Collection[object]) -> list[str]:
    """One line on all that were found, or none."""
    if not found:
        return []
    shown = ", ".join(str(one) for one in list(found)[:SHOWN])
    return [f"{len(found):,} {what}: {shown}{', ...' if len(found) > SHOWN else ''}"]


def _all(database: Database, query: LiteralString) -> list[DictRow]:
    return database.execute(query).fetchall()
