"""What a round's database has to hold in the end, worked out without an import."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

import rejects
from chaos.plan import RoundPlan
from chaos.workload import Workload
from imports import State, Totals
from randomuser import SOURCE, UserRow
from source import RecordError

EARLIER_CITY = "Known before"


@dataclass(frozen=True)
class Expectation:
    """`rows` by id, `kept` the ids among them that stay the earlier import's; rejects by position.

    A reject is the part of its error row's message that its record determines.
    """

    rows: Mapping[UUID, UserRow]
    kept: frozenset[UUID]
    rejects: Mapping[int, dict[str, Any]]
    totals: Totals
    state: State


def expect(plan: RoundPlan, workload: Workload) -> Expectation:
    rows: dict[UUID, UserRow] = {}
    rejects: dict[int, dict[str, Any]] = {}
    valid = 0
    for position, sent in enumerate(workload.records):
        record = SOURCE.without_secrets(sent)
        try:
            row = SOURCE.decode(record)
        except RecordError as error:
            rejects[position] = _reject(record, error)
        else:
            rows[row.id] = row
            valid += 1
    before = {row.id: row for row in earlier(workload.known)}
    inserted, again = len(rows.keys() - before.keys()), valid - len(rows.keys() - before.keys())
    updates = plan.on_conflict == "update"
    kept = frozenset(before if not updates else before.keys() - rows.keys())
    return Expectation(
        rows={**rows, **{key: before[key] for key in kept}},
        kept=kept,
        rejects=rejects,
        totals=Totals(
            users=len(workload.records),
            imported=inserted,
            updated=again if updates else 0,
            skipped=0 if updates else again,
            rejected=len(rejects),
        ),
        state="complete_with_rejects" if rejects else "complete",
    )


def earlier(records: Iterable[bytes]) -> list[UserRow]:
    """Users as an earlier import has left them: with the same keys and another city."""
    rows = (SOURCE.decode(SOURCE.without_secrets(record)) for record in records)
    return [msgspec.structs.replace(row, city=EARLIER_CITY) for row in rows]


def _reject(record: bytes, error: RecordError) -> dict[str, Any]:
    shown = SOURCE.identify(record)
    return {
        "user_id": None if shown is None else str(shown),
        "stage": "decode",
        "detail": error.detail,
        "path": error.path,
        "record": msgspec.json.decode(msgspec.json.encode(rejects.as_json(record))),
    }
