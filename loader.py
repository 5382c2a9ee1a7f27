"""A staged chunk into its tables: rows, error rows, counts, all in one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

import telemetry
from imports import Plan
from insertion import Counts, Outcome, insert_records
from models import Chunks, Errors, Imports, StagedPages
from pages import unpack
from rejects import Failure, chunk_error_id, counting_attempts, write_rejects
from source import load


@dataclass(frozen=True)
class Claim:
    """A chunk that this transaction alone loads."""

    plan: Plan
    page: int
    position: int
    records: Sequence[bytes]


def load_chunk(
    session: Session,
    import_id: str,
    chunk: int,
    executor_id: str,
) -> dict[str, int]:
    """Loads a staged chunk: rows, error rows and its counts, all in the caller's transaction.

    A chunk that is loaded already, or whose import is cancelled, stays as it is. What is the data's
    fault is rejected; every other error leaves here and takes the transaction with it. Returns the
    counts, as plain JSON.
    """
    claim = _claim(session, import_id, chunk)
    if claim is None:
        return asdict(_counts_of(session, import_id, chunk))
    source = load(claim.plan.source)
    records = enumerate(claim.records, claim.position)
    outcome = insert_records(session, source, import_id, claim.plan, records)
    write_rejects(session, import_id, outcome.rejects)
    _mark_loaded(session, import_id, chunk, outcome.counts, executor_id)
    _trace(claim, outcome)
    return asdict(outcome.counts)


def fail_chunk(
    session: Session, import_id: str, chunk: int, executor_id: str | None, failure: Failure
) -> None:
    """Gives a chunk up for this attempt: one row of `errors`, of stage `chunk`."""
    row = session.execute(
        update(Chunks)
        .where(Chunks.import_id == import_id, Chunks.chunk == chunk, Chunks.loaded_at.is_(None))
        .values(failed_at=func.clock_timestamp(), executor_id=executor_id)
        .returning(Chunks.position, Chunks.users)
    ).one_or_none()
    if row is None:
        return
    message = {
        "import_id": import_id,
        "position": row.position,
        "positions": [row.position, row.position + row.users - 1],
        "user_id": None,
        "stage": "chunk",
        "error": asdict(failure),
        "attempts": 1,
        "record": None,
    }
    statement = insert(Errors).values(id=chunk_error_id(import_id, chunk), message=message)
    session.execute(counting_attempts(statement))


def _claim(session: Session, import_id: str, chunk: int) -> Claim | None:
    """Locks the chunk: another process that took it over waits here, and then finds it loaded."""
    row = session.execute(
        select(
            func.substr(StagedPages.payload, Chunks.block_offset + 1, Chunks.block_length).label(
                "block"
            ),
            Chunks.page,
            Chunks.position,
            Imports.options,
        )
        .join(
            Chunks, (Chunks.import_id == StagedPages.import_id) & (Chunks.page == StagedPages.page)
        )
        .join(Imports, Imports.id == Chunks.import_id)
        .where(
            Chunks.import_id == import_id,
            Chunks.chunk == chunk,
            Chunks.loaded_at.is_(None),
            Imports.state != "cancelled",
        )
        .with_for_update(of=Chunks)
        .execution_options(in_binary=True)
    ).one_or_none()
    if row is None:
        return None
    return Claim(msgspec.convert(row.options, Plan), row.page, row.position, unpack(row.block))


def _counts_of(session: Session, import_id: str, chunk: int) -> Counts:
    row = session.get_one(Chunks, (import_id, chunk))
    return Counts(row.imported, row.updated, row.skipped, row.rejected)


def _mark_loaded(
    session: Session, import_id: str, chunk: int, counts: Counts, executor_id: str
) -> None:
    session.execute(
        update(Chunks)
        .where(Chunks.import_id == import_id, Chunks.chunk == chunk)
        .values(
            **asdict(counts),
            executor_id=executor_id,
            started_at=func.now(),
            loaded_at=func.clock_timestamp(),
            failed_at=None,
        )
    )
    session.execute(delete(Errors).where(Errors.id == chunk_error_id(import_id, chunk)))


def _trace(claim: Claim, outcome: Outcome) -> None:
    """Tells the chunk's span what came of it; of who was rejected, no more than the position."""
    totals = {f"import.{name}": count for name, count in asdict(outcome.counts).items()}
    telemetry.annotate(**{"import.page": claim.page, "import.users": len(claim.records)}, **totals)
    for reject in outcome.rejects:
        attributes = {
            "import.position": reject.position,
            "reject.stage": reject.stage,
            "reject.field": reject.failure.path or "",
            "reject.reason": reject.failure.sqlstate or reject.failure.detail,
        }
        telemetry.event("reject", **attributes)
