"""The queries behind progress, status and errors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

import imports
from imports import Import, Totals
from models import Base, Chunks, Errors, Imports


@dataclass(frozen=True)
class Progress:
    """How far an import is, by what its chunks have committed."""

    totals: Totals
    chunks: int
    loaded: int
    failed: int


class ImportNotFound(Exception):
    """No import has the id, or several begin with it."""


def progress(session: Session, import_id: str) -> Progress:
    row = session.execute(
        select(func.count(), func.count(Chunks.loaded_at), func.count(Chunks.failed_at)).where(
            Chunks.import_id == import_id
        )
    ).one()
    return Progress(imports.totals_of(session, import_id), *row)


def all_imports(session: Session, limit: int = 50) -> list[Import]:
    """The newest first."""
    ids = session.scalars(select(Imports.id).order_by(Imports.started_at.desc()).limit(limit))
    return [imports.get(session, import_id) for import_id in ids.all()]


def find_import(session: Session, prefix: str | None) -> Import:
    """The import whose id begins so; without a prefix, the newest. Raises ImportNotFound."""
    query = select(Imports.id).order_by(Imports.started_at.desc()).limit(2)
    if prefix is not None:
        query = query.where(Imports.id.startswith(prefix, autoescape=True))
    ids = session.scalars(query).all()
    if not ids:
        raise ImportNotFound(f"no import begins with {prefix}" if prefix else "no import yet")
    if prefix is not None and len(ids) > 1:
        raise ImportNotFound(f"several imports begin with {prefix}: give more of the id")
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


def as_dict(this: Import) -> dict[str, Any]:
    """An import as `--json` shows it."""
    built: dict[str, Any] = msgspec.to_builtins(this)
    return built
