"""Rejected records tried once more: those that go in now leave the errors, with the counters.

A chunk at a time, as they were loaded: one transaction locks the chunk, so that of two processes
the second finds what the first has left. A crash undoes no more than the chunk in hand, and to
retry again goes on there: no workflow has to remember anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, delete, func, literal, select, update
from sqlalchemy.orm import Session

import imports
import pages
import rejects
from database import recordset, transaction
from insertion import Counts, insert_records
from models import Chunks, Errors, Imports
from source import Source, SourceError, load

LINES = 500
"""Of a mended file, in one statement."""


class Line(msgspec.Struct, frozen=True):
    """What is read of a line that `errors --jsonl` wrote."""

    import_id: str
    position: int
    stage: str
    record: msgspec.Raw


def retry(import_id: str | None) -> Counts:
    """Tries the rejected records of an import, or of all, and returns what became of them."""
    counts = Counts()
    for owner, chunk in transaction("find_rejects", _chunks_with_rejects, import_id):
        counts += transaction("retry_chunk", retry_chunk, owner, chunk)
    return counts


def mend(session: Session, path: Path, import_id: str | None) -> int:
    """Puts the records of a `.jsonl` into their rows of `errors`; returns how many had one.

    Lines of other imports than the one named are passed over, and so are those whose record is in
    by now. Raises SourceError for what is no line of `errors --jsonl`; nothing is mended then.
    """
    sources = {one.id: load(one.source) for one in session.scalars(select(Imports))}
    lines = (
        line
        for line in _lines(path)
        if line.stage != "chunk" and import_id in (None, line.import_id)
    )
    mended = 0
    while batch := list(islice(lines, LINES)):
        mended += _replace_records(session, sources, batch)
    return mended


def retry_chunk(session: Session, import_id: str, chunk: int) -> Counts:
    """Tries a loaded chunk's rejects in the caller's transaction; returns what became of them."""
    plan = imports.get(session, import_id).plan
    source = load(plan.source)
    records = _lock_rejected(session, source, import_id, chunk)
    outcome = insert_records(session, source, import_id, plan, records.items())
    rejects.write_rejects(session, import_id, outcome.rejects)
    settled = records.keys() - {reject.position for reject in outcome.rejects}
    settled_ids = [rejects.error_id(import_id, position) for position in settled]
    session.execute(delete(Errors).where(_is_one_of(settled_ids)))
    _count(session, import_id, chunk, replace(outcome.counts, rejected=-len(settled)))
    return outcome.counts


def given_up_chunks(session: Session, import_id: str | None) -> int:
    """How many chunks have failed as a whole, which only their import can try again."""
    query = select(func.count()).where(Chunks.failed_at.is_not(None))
    if import_id is not None:
        query = query.where(Chunks.import_id == import_id)
    return session.scalar(query) or 0


def _chunks_with_rejects(session: Session, import_id: str | None) -> Sequence[tuple[str, int]]:
    query = select(Chunks.import_id, Chunks.chunk).where(Chunks.rejected > 0)
    if import_id is not None:
        query = query.where(Chunks.import_id == import_id)
    found = session.execute(query.order_by(Chunks.import_id, Chunks.chunk))
    return [(import_id, chunk) for import_id, chunk in found]


def _lock_rejected(
    session: Session, source: Source, import_id: str, chunk: int
) -> Mapping[int, bytes]:
    """The chunk's open records by position, as they stand in `errors`, without secrets."""
    covered = session.get_one(Chunks, (import_id, chunk), with_for_update=True)
    positions = {
        rejects.error_id(import_id, position): position
        for position in range(covered.position, covered.position + covered.users)
    }
    rows = session.execute(
        # As text, whether it is jsonb or was kept as text: by way of floats it would lose digits.
        select(Errors.id, Errors.message["record"].astext.label("record"))
        .where(_is_one_of(positions))
        .with_for_update()
    ).all()
    return {
        positions[row.id]: source.without_secrets((row.record or "null").encode())
        for row in sorted(rows, key=lambda row: positions[row.id])
    }


def _count(session: Session, import_id: str, chunk: int, change: Counts) -> None:
    session.execute(
        update(Chunks)
        .where(Chunks.import_id == import_id, Chunks.chunk == chunk)
        .values({name: getattr(Chunks, name) + by for name, by in asdict(change).items()})
    )
    imports.amend(session, import_id, asdict(change))


def _lines(path: Path) -> Iterator[Line]:
    for number, text in enumerate(pages.read_lines(path), 1):
        try:
            yield _decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{path}, line {number} (blank ones not counted) is none of `errors --jsonl`: "
                f"{error}; nothing was changed"
            ) from None


def _replace_records(session: Session, sources: Mapping[str, Source], lines: Sequence[Line]) -> int:
    new = recordset("errors", ["id", "message"])
    rows = [
        {
            "id": rejects.error_id(line.import_id, line.position),
            "message": {"record": _storable(sources[line.import_id], line.record)},
        }
        for line in lines
        if line.import_id in sources
    ]
    replaced = session.connection().execute(
        update(Errors)
        .where(Errors.id == new.c.id)
        .values(message=Errors.message.concat(new.c.message))
        .returning(Errors.id),
        {"batch": msgspec.json.encode(rows).decode()},
    )
    return len(replaced.all())


def _storable(source: Source, record: msgspec.Raw) -> msgspec.Raw | str:
    """What was no valid JSON stands in its line as a string."""
    text = bytes(record)
    if text.startswith(b'"'):
        text = msgspec.json.decode(text, type=str).encode("utf-8", "backslashreplace")
    return rejects.as_json(source.without_secrets(text))


def _is_one_of(ids: Iterable[UUID]) -> ColumnElement[bool]:
    # One array: as single parameters, the ids of a large chunk would be too many.
    return Errors.id == any_(literal(list(ids), ARRAY(Uuid)))


_decoder = msgspec.json.Decoder(Line)
