"""The queries behind progress, `status`, `errors` and the report: the same numbers for all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from dbos import DBOSClient
from sqlalchemy import (
    ColumnElement,
    Executable,
    RowMapping,
    ScalarSelect,
    SQLColumnExpression,
    Text,
    case,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    table,
)
from sqlalchemy.orm import Session, aliased

import imports
import liveness
from imports import Import
from models import Base, Chunks, Errors, Imports
from pages import CHUNK_WORKFLOW
from source import Facet
from views import errors_by_reason, import_totals
from workflows import find_workflows

R = TypeVar("R")

State = imports.State | Literal["stalled"]
"""`stalled` is how an import is shown that is `running` while no process lives to work on it."""

WORKFLOWS = table("workflow_status", column("workflow_uuid"), column("status"), schema="dbos")
"""DBOS's own, which tells what was cancelled by its command line, too."""

NEXT_FOR_STALLED = "start its import command again, or a worker"
WORKER_COMMAND = "python integration.py worker"

MAX_IMPORTS = 50
"""Shown by `status`, the newest."""

MAX_CATEGORIES = 30
"""Of a facet, the largest."""


@dataclass(frozen=True)
class Standing:
    """How an import stands, by what its chunks have committed: a row of `import_totals`.

    `users_per_second` of an import under way is that since its processes live.
    """

    import_id: str
    source: str
    origin: str | None
    state: State
    reason: str | None
    attempt: int
    started_at: datetime
    resumed_at: datetime
    finished_at: datetime | None
    wanted: int
    users: int
    imported: int
    updated: int
    skipped: int
    rejected: int
    pages: int
    chunks: int
    loaded_chunks: int
    failed_chunks: int
    takeovers: int
    workers: int
    seconds: float
    users_per_second: int

    @property
    def done(self) -> int:
        return self.imported + self.updated + self.skipped + self.rejected

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None where nothing is under way or nothing is known."""
        if self.state != "running" or not self.users_per_second:
            return None
        return (self.wanted - self.done) / self.users_per_second

    @property
    def next_page(self) -> int | None:
        """The page that is still to come in."""
        return self.pages + 1 if self.state == "running" and self.users < self.wanted else None


@dataclass(frozen=True)
class Progress:
    """An import under way, with the processes that have its chunks in hand, one for each chunk.

    `dead` are processes that ended with work of this import in hand, which nobody has taken over.
    """

    standing: Standing
    busy: Sequence[str]
    dead: Sequence[str]

    @property
    def running(self) -> int:
        return len(self.busy)

    @property
    def waiting(self) -> int:
        """Chunks that nobody has in hand."""
        ended = self.standing.loaded_chunks + self.standing.failed_chunks
        return max(0, self.standing.chunks - ended - self.running)


@dataclass(frozen=True)
class Work:
    """What one process has done of an import."""

    executor_id: str
    chunks: int
    users: int
    failed: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class Reason:
    """What several errors have in common, and the first of them. `field` may be a constraint."""

    import_id: str
    stage: str
    field: str | None
    reason: str
    errors: int
    example_position: int
    example_user: str | None


@dataclass(frozen=True)
class Moment:
    """Users loaded in a span of time; `last_at` is when the last of them were."""

    start: datetime
    end: datetime
    last_at: datetime
    users: int


@dataclass(frozen=True)
class Stretch:
    """Chunks that one process ended within one short span of time, with the same outcome."""

    executor_id: str
    outcome: str
    start: datetime
    end: datetime
    chunks: int
    users: int
    takeovers: int


@dataclass(frozen=True)
class Share:
    """How many users have a value (a facet's), or lack one (of a column)."""

    value: str
    users: int


class ImportNotFound(Exception):
    """No import has the id, or several begin with it."""


def standing(session: Session, import_id: str) -> Standing:
    """Of an import that is known to exist."""
    return _standings(session, import_totals.c.import_id == import_id)[0]


def standings(session: Session) -> list[Standing]:
    """The newest first, MAX_IMPORTS at most."""
    newest = select(Imports.id).order_by(Imports.started_at.desc()).limit(MAX_IMPORTS)
    return _standings(session, import_totals.c.import_id.in_(newest))


def progress(session: Session, client: DBOSClient, this: Import) -> Progress:
    in_hand = find_workflows(client, workflow_id_prefix=this.workflow_id, status="PENDING")
    holders = {status.executor_id for status in in_hand if status.executor_id}
    alive = liveness.living(session, holders)
    busy = [
        status.executor_id
        for status in in_hand
        if status.name == CHUNK_WORKFLOW and status.executor_id in alive
    ]
    return Progress(standing(session, this.id), busy, sorted(holders - alive))


def workers(session: Session, import_id: str) -> list[Work]:
    """Who has loaded or given up its chunks, the first one first."""
    ended_at = func.coalesce(Chunks.loaded_at, Chunks.failed_at)
    first_at = func.min(func.coalesce(Chunks.started_at, Chunks.failed_at))
    query = (
        select(
            Chunks.executor_id,
            func.count(),
            func.coalesce(func.sum(Chunks.users).filter(Chunks.loaded_at.is_not(None)), 0),
            func.count(Chunks.failed_at),
            first_at,
            func.max(ended_at),
        )
        .where(Chunks.import_id == import_id, Chunks.executor_id.is_not(None))
        .group_by(Chunks.executor_id)
        .having(func.max(ended_at).is_not(None))
        .order_by(first_at)
    )
    return _all(session, query, Work)


def reasons(
    session: Session, import_id: str | None = None, limit: int | None = None
) -> list[Reason]:
    """What was rejected, by reason: those with the most errors first."""
    view = errors_by_reason.c
    query = select(errors_by_reason).order_by(
        view.errors.desc(), view.import_id, view.stage, view.field, view.reason
    )
    if import_id is not None:
        query = query.where(view.import_id == import_id)
    return [Reason(**row) for row in session.execute(query.limit(limit)).mappings()]


def as_dict(one: Standing) -> dict[str, Any]:
    """An import as `--json` shows it: what its summary has, and more."""
    values = asdict(one)
    return {
        "import_id": values.pop("import_id"),
        "status": values.pop("state"),
        **values,
        "seconds_left": one.seconds_left,
    }


def details(progress: Progress, workers: Sequence[Work]) -> dict[str, Any]:
    """One import as `--json` shows it."""
    return {
        **as_dict(progress.standing),
        "running_chunks": progress.running,
        "waiting_chunks": progress.waiting,
        "next_page": progress.standing.next_page,
        "dead_processes": list(progress.dead),
        "by_worker": [asdict(work) for work in workers],
    }


def find_import(session: Session, prefix: str | None) -> Import:
    """The import whose id begins so; without a prefix, the newest. Raises ImportNotFound."""
    query = select(Imports.id).order_by(Imports.started_at.desc()).limit(2)
    if prefix is not None:
        query = query.where(Imports.id.startswith(prefix, autoescape=True))
    ids = session.scalars(query).all()
    if not ids:
        raise ImportNotFound(
            f"No import begins with {prefix}: `python integration.py status` lists them."
            if prefix
            else "No import yet: python integration.py import"
        )
    if prefix is not None and len(ids) > 1:
        raise ImportNotFound(f"Several imports begin with {prefix}: give more of the id.")
    return imports.get(session, ids[0])


def missing_rows(session: Session, this: Import, model: type[Base]) -> int:
    """Of the rows that an import wrote, how many are gone at least.

    A row that a later import updated counts as that one's, so what later imports updated is
    not missing. A user that came twice was updated twice in one row, so that `updated` says no
    more than that there was a row.
    """
    import_id = model.__table__.c.import_id
    present = session.scalar(select(func.count()).select_from(model).where(import_id == this.id))
    updated_later = session.scalar(
        select(func.coalesce(func.sum(Imports.updated), 0)).where(
            Imports.source == this.plan.source, Imports.started_at > this.started_at
        )
    )
    written = max(this.totals.imported, min(this.totals.updated, 1))
    return max(0, written - int(present or 0) - int(updated_later or 0))


def errors(session: Session, import_id: str | None) -> Iterator[dict[str, Any]]:
    """The messages of `errors`, of one import or of all, by position; in flat memory."""
    query = select(Errors.message).order_by(
        Errors.message["import_id"].astext, Errors.message["position"].as_integer()
    )
    if import_id is not None:
        query = query.where(Errors.message["import_id"].astext == import_id)
    yield from session.scalars(query.execution_options(yield_per=1_000))


def moments(session: Session, import_id: str, spans: int) -> list[Moment]:
    """Users over time, in as many spans of equal length at most; those without users left out."""
    begin, end = _begin(import_id), _end(import_id)
    span = _span(Chunks.loaded_at, import_id, spans).label("span")
    loaded = (
        select(span, Chunks.loaded_at, Chunks.users)
        .where(Chunks.import_id == import_id, Chunks.loaded_at.is_not(None))
        .subquery()
    )
    length = (end - begin) / spans
    query = (
        select(
            begin + length * loaded.c.span,
            begin + length * (loaded.c.span + 1),
            func.max(loaded.c.loaded_at),
            func.sum(loaded.c.users),
        )
        .group_by(loaded.c.span)
        .order_by(loaded.c.span)
    )
    return _all(session, query, Moment)


def stretches(session: Session, import_id: str, spans: int) -> list[Stretch]:
    """Who was at work when: each process's chunks, those that ended in one span taken together."""
    ended_at = func.coalesce(Chunks.loaded_at, Chunks.failed_at)
    outcome = case(
        (Chunks.loaded_at.is_(None), "given up"),
        (Chunks.takeovers > 0, "after a takeover"),
        else_="at once",
    )
    span = _span(ended_at, import_id, spans)
    query = (
        select(
            Chunks.executor_id,
            outcome,
            func.min(func.coalesce(Chunks.started_at, Chunks.failed_at)),
            func.max(ended_at),
            func.count(),
            func.sum(Chunks.users),
            func.sum(Chunks.takeovers),
        )
        .where(
            Chunks.import_id == import_id,
            Chunks.executor_id.is_not(None),
            ended_at.is_not(None),
        )
        .group_by(Chunks.executor_id, outcome, span)
        .order_by(span)
    )
    return _all(session, query, Stretch)


def shares(session: Session, this: Import, model: type[Base], facet: Facet) -> list[Share]:
    """The rows that an import wrote, by the values of a facet's column."""
    column: ColumnElement[Any] = model.__table__.c[facet.column]
    value = column if facet.step is None else func.floor(column / facet.step) * facet.step
    query = (
        select(value, func.count())
        .where(model.__table__.c.import_id == this.id, column.is_not(None))
        .group_by(value)
        .order_by(func.count().desc())
        .limit(MAX_CATEGORIES)
    )
    return [
        Share(f"{value:g}" if facet.step else str(value), n) for value, n in session.execute(query)
    ]


def written_rows(session: Session, this: Import, model: type[Base]) -> int:
    """Rows that no later import has written since."""
    import_id = model.__table__.c.import_id
    count = select(func.count()).select_from(model).where(import_id == this.id)
    return session.scalar(count) or 0


def missing_values(session: Session, this: Import, model: type[Base]) -> list[Share]:
    """Columns in which rows that an import wrote have no value or an empty one."""
    columns = model.__table__.columns
    missing = [
        func.count().filter(or_(column.is_(None), cast(column, Text) == "")) for column in columns
    ]
    row = session.execute(select(*missing).where(columns.import_id == this.id)).one()
    return [Share(c.name, users) for c, users in zip(columns, row, strict=True) if users]


def _all(session: Session, query: Executable, kind: Callable[..., R]) -> list[R]:
    return [kind(*row) for row in session.execute(query)]


def _standings(session: Session, which: ColumnElement[bool]) -> list[Standing]:
    totals = import_totals.c
    since = liveness.living_since()
    workflow_id = func.concat(totals.import_id, ".", totals.attempt)
    cancelled = exists().where(
        WORKFLOWS.c.workflow_uuid == workflow_id, WORKFLOWS.c.status == "CANCELLED"
    )
    is_running = totals.state == "running"
    query = (
        select(
            *(column for column in totals if column.name not in ("state", "users_per_second")),
            case(
                (is_running & cancelled, "cancelled"),
                (is_running & since.is_(None), "stalled"),
                else_=totals.state,
            ).label("state"),
            case(
                (is_running & since.is_not(None), _speed_since(since)),
                else_=totals.users_per_second,
            ).label("users_per_second"),
        )
        .where(which)
        .order_by(totals.started_at.desc())
    )
    return [_standing(row) for row in session.execute(query).mappings()]


def _speed_since(since: ScalarSelect[Any]) -> ScalarSelect[Any]:
    """Users a second of the newest attempt until now, without the time in which nobody lived."""
    begin = func.greatest(import_totals.c.resumed_at, since)
    seconds = func.extract("epoch", func.clock_timestamp() - begin)
    return (
        select(func.round(func.sum(Chunks.users) / seconds))
        .where(Chunks.import_id == import_totals.c.import_id, Chunks.loaded_at >= begin)
        .correlate(import_totals)
        .scalar_subquery()
    )


def _standing(row: RowMapping) -> Standing:
    numbers = {
        "seconds": float(row["seconds"] or 0),
        "users_per_second": int(row["users_per_second"] or 0),
    }
    return Standing(**{**row, **numbers})


def _span(moment: SQLColumnExpression[Any], import_id: str, spans: int) -> ColumnElement[Any]:
    """The number of the span of time, of as many from an import's begin to its end."""
    begin, end = _begin(import_id), _end(import_id)
    whole = func.nullif(func.extract("epoch", end - begin), 0)
    number = func.floor(func.extract("epoch", moment - begin) * spans / whole)
    return func.least(func.coalesce(number, 0), spans - 1)


def _begin(import_id: str) -> ScalarSelect[Any]:
    return select(Imports.started_at).where(Imports.id == import_id).scalar_subquery()


def _end(import_id: str) -> ScalarSelect[Any]:
    """When the last of its chunks ended."""
    chunks = aliased(Chunks)
    last = func.max(func.coalesce(chunks.loaded_at, chunks.failed_at))
    return select(last).where(chunks.import_id == import_id).scalar_subquery()
