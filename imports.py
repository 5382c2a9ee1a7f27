"""What an import is: how it is told from others, its attempts, its totals, its end.

Its state is written under the lock of its row, and only so:

    running     by `create` and `next_attempt`; from incomplete and cancelled, too
    complete, complete_with_rejects, incomplete
                by `finish`, from running
    cancelled   by `mark_cancelled`, from running
    abandoned   by `prune`, from incomplete and cancelled

Whatever an attempt still does after that finds that it is `NotRunning`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from models import Chunks, Imports, StagedPages
from settings import OnConflict

State = Literal[
    "running", "complete", "complete_with_rejects", "incomplete", "cancelled", "abandoned"
]
COMPLETE: Sequence[str] = ("complete", "complete_with_rejects")

REQUEST_LOCK = 0x72657175
"""Keeps the locks of requests apart from other advisory locks of the database."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is imported, and how: `imports.options`.

    Either of a file (`path`, `sha256` of what it holds, and the `version` that was read for that)
    or of the API (`url`, `parameters`). Two plans with the same `request` are the same import.
    `repeatable` is false where the API makes up what it answers; `is_cached` is true where the
    answer may serve a later import as the cache.
    """

    request: str
    source: str
    path: str | None = None
    sha256: str | None = None
    version: str | None = None
    url: str | None = None
    parameters: dict[str, str] = {}
    count: int | None = None
    on_conflict: OnConflict = "skip"
    batch_size: int
    chunk_size: int
    repeatable: bool = True
    is_cached: bool = False


@dataclass(frozen=True)
class Totals:
    """Records by what became of them; `users` are all that were staged."""

    users: int = 0
    imported: int = 0
    updated: int = 0
    skipped: int = 0
    rejected: int = 0

    @property
    def done(self) -> int:
        return self.imported + self.updated + self.skipped + self.rejected

    @property
    def unfinished(self) -> int:
        return self.users - self.done


class NotRunning(Exception):
    """An attempt has nothing more to do: its import has ended, or another attempt has begun."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One of an import's attempts, by its number from 1: a workflow each."""

    id: str
    attempt: int
    plan: Plan

    @property
    def workflow_id(self) -> str:
        """Of the parent workflow; its chunks add their number to it."""
        return workflow_id(self.id, self.attempt)


@dataclass(frozen=True, kw_only=True)
class Import(Attempt):
    """A row of `imports` as it stood when it was read, at its newest attempt."""

    state: State
    reason: str | None
    totals: Totals
    started_at: datetime
    resumed_at: datetime
    finished_at: datetime | None


def workflow_id(import_id: str, attempt: int) -> str:
    return f"{import_id}.{attempt}"


def of_workflow(workflow_id: str) -> tuple[str, int]:
    """The import and the attempt that a workflow, parent or chunk, belongs to."""
    import_id, attempt, *_ = workflow_id.split(".")
    return import_id, int(attempt)


def chunk_workflow_id(import_id: str, attempt: int, chunk: int) -> str:
    return f"{import_id}.{attempt}.{chunk}"


def request_of(*parts: object) -> str:
    """A short hash of what was asked for: equal requests are one import."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def get(session: Session, import_id: str) -> Import:
    """The import of an id that is known to exist."""
    return _import(session.get_one(Imports, import_id))


def newest(session: Session, request: str) -> Import | None:
    """The newest import of a request that is complete or can go on."""
    row = session.scalar(
        select(Imports)
        .where(Imports.options["request"].astext == request, Imports.state != "abandoned")
        .order_by(Imports.started_at.desc())
        .limit(1)
    )
    return None if row is None else _import(row)


def find_or_create(session: Session, plan: Plan, again: bool) -> tuple[Import, bool]:
    """The import to go on with or to report, and whether it is a new one.

    A complete one is run anew where that is asked for, or where the API would make up other
    records. Processes that ask for the same at once take turns: they get the same import.
    """
    session.execute(select(func.pg_advisory_xact_lock(REQUEST_LOCK, func.hashtext(plan.request))))
    found = newest(session, plan.request)
    if found is not None:
        if found.state not in COMPLETE:
            return _at_its_new_place(session, found, plan), False
        if plan.repeatable and not again:
            return found, False
    return create(session, plan), True


def create(session: Session, plan: Plan) -> Import:
    """A new import of a plan, with an id that tells it from the earlier ones."""
    runs = session.scalar(
        select(func.count())
        .select_from(Imports)
        .where(Imports.options["request"].astext == plan.request)
    )
    row = Imports(
        id=request_of(plan.request, runs)[:12],
        source=plan.source,
        seed=plan.parameters.get("seed"),
        options=msgspec.to_builtins(plan),
        state="running",
        attempt=1,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return _import(row)


def begin(session: Session, import_id: str, attempt: int) -> dict[str, Any] | None:
    """Notes that an attempt begins now; returns its plan, or None where it is not to run."""
    return session.scalar(
        update(Imports)
        .where(Imports.id == import_id, Imports.attempt == attempt, Imports.state == "running")
        .values(resumed_at=func.clock_timestamp())
        .returning(Imports.options)
    )


def lock_running(session: Session, this: Attempt) -> Imports:
    """The import's row, locked: nobody ends it, or begins another attempt, before this commits.

    Raises NotRunning.
    """
    row = session.get_one(Imports, this.id, with_for_update=True, populate_existing=True)
    if row.state != "running" or row.attempt != this.attempt:
        raise NotRunning(
            f"Attempt {this.attempt} at import {this.id} is over: the import is {row.state}, "
            f"at attempt {row.attempt}"
        )
    return row


def next_attempt(session: Session, seen: Import) -> Import:
    """Begins another attempt at an import whose workflow has ended without completing it.

    Two processes that begin it at once begin the same one. An import that has been completed since
    it was seen stays as it is.
    """
    session.execute(
        update(Imports)
        .where(
            Imports.id == seen.id,
            Imports.attempt == seen.attempt,
            Imports.state.in_(("running", "incomplete", "cancelled")),
        )
        .values(attempt=Imports.attempt + 1, state="running", reason=None, finished_at=None)
    )
    return _import(session.get_one(Imports, seen.id, populate_existing=True))


def finish(session: Session, import_id: str, attempt: int, why: str | None) -> dict[str, Any]:
    """Writes an import's totals and its end, which the totals tell; returns its summary.

    `why` tells what kept it from being complete. A complete import's staged pages go with it:
    PostgreSQL keeps no second copy of the data. An attempt that is over changes nothing.
    """
    row = session.get_one(Imports, import_id, with_for_update=True)
    if row.state == "running" and row.attempt == attempt:
        totals = totals_of(session, import_id)
        _write(row, totals)
        row.state, row.reason, row.finished_at = _state(totals, why), why, func.now()
        if row.state in COMPLETE:
            session.execute(delete(StagedPages).where(StagedPages.import_id == import_id))
        session.flush()
    return summary(session, import_id)


def mark_cancelled(session: Session, import_id: str) -> bool:
    """Lets no further page be staged, nor chunk be loaded; returns whether it is cancelled now."""
    row = session.get_one(Imports, import_id, with_for_update=True)
    if row.state == "running":
        row.state, row.finished_at = "cancelled", func.now()
    return row.state == "cancelled"


def has_chunks_in_hand(session: Session, import_id: str) -> bool:
    """Whether some process is at a chunk: it holds the lock of the chunk's row meanwhile."""
    remaining = select(Chunks.chunk).where(
        Chunks.import_id == import_id, Chunks.loaded_at.is_(None)
    )
    free = session.scalars(remaining.with_for_update(skip_locked=True)).all()
    return len(free) < len(session.scalars(remaining).all())


def settle_cancelled(session: Session, import_id: str) -> Totals:
    """Writes what a cancelled import has come to, and returns it."""
    row = session.get_one(Imports, import_id, with_for_update=True)
    totals = totals_of(session, import_id)
    if row.state == "cancelled":
        _write(row, totals)
    return totals


def amend(session: Session, import_id: str, change: Mapping[str, int]) -> None:
    """Adds to the totals of an import that has ended; its end may thereby be another.

    One under way adds up its chunks itself, when it ends.
    """
    row = session.get_one(Imports, import_id, with_for_update=True, populate_existing=True)
    if row.state == "running":
        return
    for name, by in change.items():
        setattr(row, name, getattr(row, name) + by)
    if row.state in COMPLETE:
        row.state = _state(_totals(row), row.reason)


def summary(session: Session, import_id: str) -> dict[str, Any]:
    """How an import stands, as `--json` prints it.

    `seconds` are of its newest attempt, from its first page to its last commit.
    """
    this = get(session, import_id)
    chunks = session.scalar(
        select(func.count()).select_from(Chunks).where(Chunks.import_id == import_id)
    )
    seconds, loaded = _newest_attempt(session, this)
    return {
        "import_id": this.id,
        "status": this.state,
        "reason": this.reason,
        **asdict(this.totals),
        "chunks": chunks,
        "seconds": round(seconds, 3),
        "users_per_second": round(loaded / seconds) if seconds else 0,
    }


def totals_of(session: Session, import_id: str) -> Totals:
    """What its chunks have come to; they commit their counts with their rows."""
    columns = [
        func.coalesce(func.sum(column), 0)
        for column in (
            Chunks.users,
            Chunks.imported,
            Chunks.updated,
            Chunks.skipped,
            Chunks.rejected,
        )
    ]
    row = session.execute(select(*columns).where(Chunks.import_id == import_id)).one()
    return Totals(*(int(value) for value in row))


def has_remaining_chunks(session: Session, import_id: str) -> bool:
    """Whether a chunk is neither loaded nor given up, and may yet be loaded."""
    remaining = exists().where(
        Chunks.import_id == import_id,
        Chunks.loaded_at.is_(None),
        Chunks.failed_at.is_(None),
        Imports.id == Chunks.import_id,
        Imports.state != "cancelled",
    )
    return bool(session.scalar(select(remaining)))


def remaining_chunks(session: Session, import_id: str, limit: int) -> list[int]:
    """Numbers of the first chunks that are neither loaded nor given up."""
    return list(
        session.scalars(
            select(Chunks.chunk)
            .where(
                Chunks.import_id == import_id,
                Chunks.loaded_at.is_(None),
                Chunks.failed_at.is_(None),
            )
            .order_by(Chunks.chunk)
            .limit(limit)
        )
    )


def _at_its_new_place(session: Session, found: Import, plan: Plan) -> Import:
    """The same file may have been moved, or packed, since the import was begun."""
    row = session.get_one(Imports, found.id)
    there = msgspec.structs.replace(found.plan, path=plan.path, version=plan.version)
    row.options = msgspec.to_builtins(there)
    session.flush()
    return _import(row)


def _newest_attempt(session: Session, this: Import) -> tuple[float, int]:
    """Seconds from its beginning to its last chunk's commit, and the users of its chunks."""
    last, users = session.execute(
        select(func.max(Chunks.loaded_at), func.coalesce(func.sum(Chunks.users), 0)).where(
            Chunks.import_id == this.id, Chunks.loaded_at >= this.resumed_at
        )
    ).one()
    return (0.0, 0) if last is None else ((last - this.resumed_at).total_seconds(), int(users))


def _write(row: Imports, totals: Totals) -> None:
    for name, value in asdict(totals).items():
        setattr(row, name, value)


def _totals(row: Imports) -> Totals:
    return Totals(row.users, row.imported, row.updated, row.skipped, row.rejected)


def _state(totals: Totals, why: str | None) -> State:
    if totals.unfinished or why is not None:
        return "incomplete"
    return "complete_with_rejects" if totals.rejected else "complete"


def _import(row: Imports) -> Import:
    state: Any = row.state
    return Import(
        id=row.id,
        plan=msgspec.convert(row.options, Plan),
        state=state,
        reason=row.reason,
        attempt=row.attempt,
        totals=_totals(row),
        started_at=row.started_at,
        resumed_at=row.resumed_at,
        finished_at=row.finished_at,
    )
