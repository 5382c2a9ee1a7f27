"""What nobody needs any more: staged pages of abandoned imports, DBOS's rows of ended ones."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from dbos import DBOSClient
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from database import Database, transaction
from models import Imports, StagedPages
from workflows import find_workflows

ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
WORKFLOWS_AT_ONCE = 1_000
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Pruned:
    """How much was deleted, and how many imports were given up for it."""

    abandoned: int = 0
    pages: int = 0
    workflows: int = 0


def age(written: str) -> timedelta:
    """The time that `30d`, `12h`, `90m`, `10s` or `2w` stands for. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", written)
    if found is None:
        raise ValueError(f"{written!r} is no age: a number with s, m, h, d or w, such as 30d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def prune(database: Database, older_than: timedelta) -> Pruned:
    """Deletes what belongs to imports that ended longer ago; one under way keeps all it has.

    One that had not come to its end is `abandoned` then: its command begins a new one, which skips
    the users that are in. Users, errors and totals stay. A crash leaves the rest to the next time.
    """
    abandoned, pages = transaction("prune_pages", _abandon, older_than)
    workflows = sum(
        _delete_workflows(database.client, ids)
        for import_id in transaction("find_ended", _ended, older_than)
        for ids in _workflows(database.client, import_id)
    )
    return Pruned(abandoned, pages, workflows)


def _abandon(session: Session, older_than: timedelta) -> tuple[int, int]:
    """Imports and their staged pages: from now on, nothing goes on with these."""
    given_up = session.scalars(
        update(Imports)
        .where(
            Imports.state.in_(("incomplete", "cancelled")),
            Imports.finished_at < func.now() - older_than,
        )
        .values(state="abandoned")
        .returning(Imports.id)
    ).all()
    pages = session.scalars(
        delete(StagedPages).where(StagedPages.import_id.in_(given_up)).returning(StagedPages.page)
    ).all()
    return len(given_up), len(pages)


def _ended(session: Session, older_than: timedelta) -> Sequence[str]:
    return session.scalars(
        select(Imports.id).where(
            Imports.state != "running", Imports.finished_at < func.now() - older_than
        )
    ).all()


def _workflows(client: DBOSClient, import_id: str) -> Iterator[list[str]]:
    """The ids of an import's ended workflows; each list is to be deleted before the next."""
    while found := find_workflows(
        client,
        workflow_id_prefix=f"{import_id}.",
        status=ENDED,
        limit=WORKFLOWS_AT_ONCE,
    ):
        yield [status.workflow_id for status in found]


def _delete_workflows(client: DBOSClient, ids: list[str]) -> int:
    transaction("delete_checkpoints", _delete_checkpoints, ids)
    client.delete_workflows(ids)
    return len(ids)


def _delete_checkpoints(session: Session, ids: list[str]) -> None:
    # DBOS deletes those of workflows that came to their end, not those of cancelled ones.
    session.execute(
        text("DELETE FROM dbos.datasource_outputs WHERE workflow_id = ANY(:ids)"), {"ids": ids}
    )
