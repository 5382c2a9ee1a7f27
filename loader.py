"""A chunk into its table: batches under savepoints, rejects among the errors, all in one go."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import (
    JSON,
    ColumnElement,
    Executable,
    FromClause,
    Label,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import telemetry
from database import reason, sqlstate
from imports import Plan
from models import Chunks, Errors, Imports, StagedPages
from pages import unpack
from settings import OnConflict
from source import RecordError, Row, Source, load

ERROR_NAMESPACE = uuid.UUID("6f1d6c0e-2c0e-4b0f-9a52-0d8f3b9d5c11")
"""Of the version 5 UUIDs that give each rejected record its one row."""

COPY_SIZE = 100
"""Size of a batch from which on COPY is tried: for fewer records it costs more than it saves."""

DATA_ERRORS = ("22", "23")
"""SQLSTATE classes that blame the data: data exception, integrity constraint violation."""


@dataclass(frozen=True)
class Counts:
    """What became of records."""

    imported: int = 0
    updated: int = 0
    skipped: int = 0
    rejected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.imported + other.imported,
            self.updated + other.updated,
            self.skipped + other.skipped,
            self.rejected + other.rejected,
        )


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record that has a row, with its place in the import."""

    position: int
    record: bytes
    row: Row


@dataclass(frozen=True)
class Failure:
    """Why a record or a chunk could not be loaded: `message.error` of a row of `errors`."""

    type: str
    detail: str
    path: str | None = None
    sqlstate: str | None = None


@dataclass(frozen=True)
class Reject:
    """A record that can't go in, and why."""

    position: int
    record: bytes
    key: str | None
    stage: str
    failure: Failure


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

    A chunk that is loaded already stays as it is. What is the data's fault is rejected; every
    other error leaves here and takes the transaction with it. Returns the counts, as plain JSON.
    """
    claim = _claim(session, import_id, chunk)
    if claim is None:
        return asdict(_counts_of(session, import_id, chunk))
    source = load(claim.plan.source)
    entries, undecoded = decode(source, enumerate(claim.records, claim.position))
    counts, refused = insert_rows(session, source, import_id, claim.plan, entries)
    write_rejects(session, import_id, undecoded + refused)
    counts += Counts(rejected=len(undecoded))
    _mark_loaded(session, import_id, chunk, counts, executor_id)
    _trace(claim, counts, undecoded + refused)
    return asdict(counts)


def decode(
    source: Source, records: Iterable[tuple[int, bytes]]
) -> tuple[list[Entry], list[Reject]]:
    """The records that have the source's shape, and the others, each with its position."""
    entries, rejects = [], []
    for position, record in records:
        try:
            entries.append(Entry(position, record, source.decode(record)))
        except RecordError as error:
            failure = Failure(type(error).__name__, error.detail, error.path)
            rejects.append(Reject(position, record, source.identify(record), "decode", failure))
    return entries, rejects


def insert_rows(
    session: Session, source: Source, import_id: str, plan: Plan, entries: Sequence[Entry]
) -> tuple[Counts, list[Reject]]:
    """Inserts in batches of `plan.batch_size`, ordered by id, so that imports don't deadlock."""
    insertion = Insertion(session, source, import_id, plan)
    counts, rejects = Counts(), list[Reject]()
    for once in _without_repeats(entries):
        done, refused = insertion.insert(once)
        counts += done
        rejects += refused
    return counts, rejects


@dataclass(frozen=True)
class Insertion:
    """How an import's rows go into its source's tables."""

    session: Session
    source: Source
    import_id: str
    plan: Plan

    def insert(self, entries: Sequence[Entry]) -> tuple[Counts, list[Reject]]:
        """Batches under a savepoint. When data are at fault, each batch has one of its own, then
        each record of the batch at fault: a bad record costs its neighbours nothing.
        """
        try:
            with self._savepoint():
                return self._insert_batches(entries), []
        except DBAPIError as error:
            if not _blames_data(error):
                raise
            if len(entries) == 1:
                return Counts(rejected=1), [_refused(entries[0], error)]
        counts, rejects = Counts(), list[Reject]()
        for part in _parts(entries, self.plan.batch_size):
            done, refused = self.insert(part)
            counts += done
            rejects += refused
        return counts, rejects

    def _insert_batches(self, entries: Sequence[Entry]) -> Counts:
        batches = list(_slices(entries, self.plan.batch_size))
        if self.source.details or self.plan.on_conflict == "update":
            return sum((self._insert_batch(batch) for batch in batches), Counts())
        if self.plan.batch_size >= COPY_SIZE:
            # Twice as fast, but all or nothing: what COPY refuses, INSERT decides.
            with suppress(psycopg.Error), self._savepoint():
                return self._copy(entries)
        return self._insert_or_skip(batches)

    def _insert_or_skip(self, batches: Sequence[Sequence[Entry]]) -> Counts:
        """Only a total is asked for, so the driver sends all batches before it awaits an answer."""
        written = self.session.connection().execute(
            _insert_statement(type(self.source), "skip"),
            [self._parameters(batch) for batch in batches],
            execution_options={"preserve_rowcount": True},
        )
        imported = int(written.rowcount)
        return Counts(imported, skipped=sum(map(len, batches)) - imported)

    def _savepoint(self) -> AbstractContextManager[object]:
        """The driver's own: SQLAlchemy's takes longer than the INSERT of ten users in it."""
        return self._driver.transaction()

    @property
    def _driver(self) -> "psycopg.Connection[Any]":
        driver: Any = self.session.connection().connection.driver_connection
        return driver  # type: ignore[no-any-return]

    def _insert_batch(self, batch: Sequence[Entry]) -> Counts:
        """One that tells which rows it wrote, and whether they are new."""
        connection = self.session.connection()
        parameters = self._parameters(batch)
        statement = _counting_statement(type(self.source), self.plan.on_conflict)
        written = connection.execute(statement, parameters).one()
        for detail in self.source.details:
            connection.execute(detail, {"batch": parameters["batch"], "ids": written.ids})
        updated = written.rows - written.imported
        return Counts(written.imported, updated, len(batch) - written.rows)

    def _parameters(self, batch: Sequence[Entry]) -> dict[str, str]:
        rows = msgspec.json.encode([entry.row for entry in batch])
        return {"batch": rows.decode(), "import_id": self.import_id}

    def _copy(self, entries: Sequence[Entry]) -> Counts:
        with self._driver.cursor().copy(_copy_statement(type(self.source))) as copy:
            for entry in entries:
                copy.write_row((self.import_id, *msgspec.structs.astuple(entry.row)))
        return Counts(imported=len(entries))


def write_rejects(session: Session, import_id: str, rejects: Sequence[Reject]) -> None:
    """One row of `errors` for each; one that has a row already has failed once more."""
    if not rejects:
        return
    try:
        with session.connection().begin_nested():
            _write_rejects(session, import_id, rejects, as_json)
    except DBAPIError as error:
        if not _blames_data(error):
            raise
        # JSON has numbers, such as 1e-20000, that jsonb refuses.
        if len(rejects) == 1:
            _write_rejects(session, import_id, rejects, as_text)
            return
        for reject in rejects:
            write_rejects(session, import_id, [reject])


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
    session.execute(_counting_attempts(statement))


def failure_of(error: Exception) -> Failure:
    """An error as `errors` shows it."""
    kind = getattr(error, "orig", None) or error
    return Failure(type(kind).__name__, storable(reason(error)), sqlstate=sqlstate(error))


def error_id(import_id: str, position: int) -> uuid.UUID:
    return uuid.uuid5(ERROR_NAMESPACE, f"{import_id}/{position}")


def chunk_error_id(import_id: str, chunk: int) -> uuid.UUID:
    return uuid.uuid5(ERROR_NAMESPACE, f"{import_id}/chunk/{chunk}")


def as_json(record: bytes) -> msgspec.Raw | str:
    """A record as jsonb takes it: as it came, or as text where jsonb can't hold it."""
    try:
        msgspec.json.decode(record)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return as_text(record)
    return as_text(record) if b"\\u0000" in record else msgspec.Raw(record)


def as_text(record: bytes) -> str:
    """A record as PostgreSQL takes it whatever it holds; bytes that are no UTF-8 are escaped."""
    return storable(record.decode("utf-8", "backslashreplace"))


def storable(text: str) -> str:
    """Text as PostgreSQL takes it."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


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
        .where(Chunks.import_id == import_id, Chunks.chunk == chunk, Chunks.loaded_at.is_(None))
        .with_for_update(of=Chunks)
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


def _trace(claim: Claim, counts: Counts, rejects: Sequence[Reject]) -> None:
    """Tells the chunk's span what came of it; of who was rejected, no more than the position."""
    totals = {f"import.{name}": count for name, count in asdict(counts).items()}
    telemetry.annotate(**{"import.page": claim.page, "import.users": len(claim.records)}, **totals)
    for reject in rejects:
        attributes = {
            "import.position": reject.position,
            "reject.stage": reject.stage,
            "reject.field": reject.failure.path or "",
            "reject.reason": reject.failure.sqlstate or reject.failure.detail,
        }
        telemetry.event("reject", **attributes)


def _without_repeats(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries ordered by id, each id once; then those that came again, in their order.

    One statement can't update a row twice.
    """
    entries = sorted(entries, key=lambda entry: entry.row.sort_key)
    while entries:
        once, again = list[Entry](), list[Entry]()
        for entry in entries:
            repeated = bool(once) and once[-1].row.id == entry.row.id
            (again if repeated else once).append(entry)
        yield once
        entries = again


@cache
def _copy_statement(source: type[Source]) -> sql.Composed:
    table = source.table()
    columns = ["import_id", *source.row_type.__struct_fields__]
    return sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*filter(None, (table.schema, table.name))),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )


def _parts(entries: Sequence[Entry], batch_size: int) -> Iterator[Sequence[Entry]]:
    """Batches of many entries; tenths of a batch; of a small one, each entry."""
    return _slices(entries, batch_size if len(entries) > batch_size else len(entries) // 10 or 1)


def _slices(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


@cache
def _insert_statement(source: type[Source], on_conflict: OnConflict) -> Insert:
    """One INSERT for a batch of any size: its rows are one parameter, a JSON array."""
    table = source.table()
    names = [name for name in source.row_type.__struct_fields__ if name in table.columns]
    rows = recordset(table.fullname, names)
    statement = insert(source.model).from_select(
        [*names, "import_id"],
        select(*(rows.c[name] for name in names), bindparam("import_id", type_=Text)),
    )
    if on_conflict == "skip":
        return statement.on_conflict_do_nothing(index_elements=["id"])
    new = {name: statement.excluded[name] for name in [*names, "import_id"] if name != "id"}
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={**new, "imported_at": func.now()}
    )


@cache
def _counting_statement(source: type[Source], on_conflict: OnConflict) -> Executable:
    table = source.table()
    is_new: ColumnElement[bool] = true()
    if on_conflict == "update":
        # Zero in xmax tells a new row from an updated one; partitioned tables have no xmax.
        is_new = literal_column(f"{table.name}.xmax = 0")
    statement = _insert_statement(source, on_conflict)
    written = statement.returning(table.c.id, is_new.label("is_new")).cte("written")
    imported = func.count().filter(written.c.is_new)
    counts: list[Label[Any]] = [func.count().label("rows"), imported.label("imported")]
    if source.details:
        counts.append(func.array_agg(written.c.id).label("ids"))
    return select(*counts).select_from(written)


def recordset(table: str, columns: Sequence[str]) -> FromClause:
    """The rows of the parameter `batch`, typed as a table's."""
    batch = cast(bindparam("batch", type_=Text), JSON)
    return func.json_populate_recordset(literal_column(f"NULL::{table}"), batch).table_valued(
        *columns, name="batch_rows"
    )


def _write_rejects(
    session: Session,
    import_id: str,
    rejects: Sequence[Reject],
    form: Callable[[bytes], msgspec.Raw | str],
) -> None:
    rows = [
        {
            "id": error_id(import_id, reject.position),
            "message": _message(import_id, reject, form(reject.record)),
        }
        for reject in rejects
    ]
    new = recordset("errors", ["id", "message"])
    statement = insert(Errors).from_select(["id", "message"], select(new.c.id, new.c.message))
    session.connection().execute(
        _counting_attempts(statement), {"batch": msgspec.json.encode(rows).decode()}
    )


def _counting_attempts(statement: Insert) -> Insert:
    """The new message takes the place of the old one, and goes on with its count."""
    attempts = Errors.message["attempts"].as_integer() + 1
    message = statement.excluded.message.concat(func.jsonb_build_object("attempts", attempts))
    return statement.on_conflict_do_update(index_elements=[Errors.id], set_={"message": message})


def _blames_data(error: DBAPIError) -> bool:
    return (sqlstate(error) or "")[:2] in DATA_ERRORS


def _refused(entry: Entry, error: DBAPIError) -> Reject:
    diagnostic = getattr(error.orig, "diag", None)
    place = getattr(diagnostic, "column_name", None) or getattr(diagnostic, "constraint_name", None)
    failure = replace(failure_of(error), path=place)
    return Reject(entry.position, entry.record, str(entry.row.id), "insert", failure)


def _message(import_id: str, reject: Reject, record: msgspec.Raw | str) -> dict[str, Any]:
    # A path names fields as the record does, and these hold what they like.
    error = {name: value and storable(value) for name, value in asdict(reject.failure).items()}
    return {
        "import_id": import_id,
        "position": reject.position,
        "user_id": reject.key and storable(reject.key),
        "stage": reject.stage,
        "error": error,
        "attempts": 1,
        "record": record,
    }
