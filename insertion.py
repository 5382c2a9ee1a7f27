"""Rows into their table: in batches, under savepoints, a bad record apart from its neighbours."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, get_args, get_type_hints
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.errors import UniqueViolation
from psycopg.types.numeric import Int2BinaryDumper, Int4BinaryDumper
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Integer,
    Label,
    SmallInteger,
    String,
    Text,
    Uuid,
    bindparam,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from database import recordset
from imports import Plan
from records import Entry, decode_all, decode_each, identify_all, in_order
from rejects import Reject, blames_data, failure_of
from settings import OnConflict
from source import Source

COPY_SIZE = 100
"""Size of a batch from which on COPY is tried: for fewer records it costs more than it saves."""

SORTED_SIZE = 50
"""Records that are tried at once where some may be at fault."""

COPY_REFUSALS = (psycopg.Error, struct.error, ArithmeticError, TypeError, ValueError)
"""What the server says of a COPY, and what the driver says of values that don't fit its columns."""

COPY_LINE = re.compile(r"COPY [^\n]*?, \D*(?P<line>\d+)")
"""In whatever language the server speaks."""

EXACT = {
    Text: str,
    String: str,
    Uuid: UUID,
    SmallInteger: int,
    Integer: int,
    BigInteger: int,
    Double: float,
    DateTime: datetime,
}
"""Columns that COPY takes in binary form as they are, of fields of these types."""

CHECKED_INTEGERS = (
    type("CheckedInt2", (Int2BinaryDumper,), {}),
    type("CheckedInt4", (Int4BinaryDumper,), {}),
)
"""Not replaced by the driver's own in C, which cut a number to the column's bits without a word."""


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


@dataclass(frozen=True)
class Outcome:
    """What became of records, and those that can't go in."""

    counts: Counts = Counts()
    rejects: Sequence[Reject] = ()

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.counts + other.counts, [*self.rejects, *other.rejects])


def insert_records(
    session: Session,
    source: Source,
    import_id: str,
    plan: Plan,
    records: Iterable[tuple[int, bytes]],
) -> Outcome:
    """Inserts records, given with their positions, in batches of `plan.batch_size`.

    Ordered by id, so that imports don't deadlock.
    """
    insertion = Insertion(session, source, import_id, plan)
    entries, rejects = identify_all(source, records)
    return sum(map(insertion.insert, in_order(entries)), _rejected(rejects))


@dataclass(frozen=True)
class Insertion:
    """How an import's rows go into its source's tables."""

    session: Session
    source: Source
    import_id: str
    plan: Plan

    def insert(self, entries: Sequence[Entry]) -> Outcome:
        """In batches, all or nothing; when data are at fault, each record as it deserves."""
        try:
            return self._insert_batches(entries)
        except (DBAPIError, psycopg.Error) as error:
            if not blames_data(error):
                raise
        return sum(map(self._decode_and_sort_out, _slices(entries, SORTED_SIZE)), Outcome())

    def _decode_and_sort_out(self, entries: Sequence[Entry]) -> Outcome:
        decoded, undecoded = decode_all(self.source, entries)
        return self._sort_out(decoded) + _rejected(undecoded)

    def _sort_out(self, entries: Sequence[Entry]) -> Outcome:
        """In ever smaller parts, down to a record at fault: it costs its neighbours nothing."""
        try:
            if self._may_copy:
                return self._copy_or_insert(entries)
            return self._insert_counting([entries])
        except (DBAPIError, psycopg.Error) as error:
            if not blames_data(error):
                raise
            if len(entries) == 1:
                return _rejected([_refused(entries[0], error)])
            return sum(map(self._sort_out, _parts(entries, error)), Outcome())

    @property
    def _needs_counts_only(self) -> bool:
        """Neither which rows were written, nor which of them are new."""
        return not self.source.details and self.plan.on_conflict == "skip"

    @property
    def _may_copy(self) -> bool:
        return self._needs_counts_only and _is_copied_exactly(type(self.source))

    def _insert_batches(self, entries: Sequence[Entry]) -> Outcome:
        if self._may_copy and self.plan.batch_size >= COPY_SIZE:
            return self._copy_or_insert(entries)
        batches = list(_slices(entries, self.plan.batch_size))
        if self._needs_counts_only:
            return self._insert_or_skip(batches)
        return self._insert_counting(batches)

    def _copy_or_insert(self, entries: Sequence[Entry]) -> Outcome:
        """What COPY refuses because a user is there, or for no fault of the data, is INSERT's."""
        try:
            return self._copy(entries)
        except COPY_REFUSALS as error:
            if blames_data(error) and not isinstance(error, UniqueViolation):
                raise
        return self._insert_or_skip(list(_slices(entries, self.plan.batch_size)))

    def _copy(self, entries: Sequence[Entry]) -> Outcome:
        """All or nothing. Raises one of COPY_REFUSALS."""
        cursor = self._driver.cursor()
        for dumper in CHECKED_INTEGERS:
            cursor.adapters.register_dumper(None, dumper)
        _, statement = _copy_statements(type(self.source))
        rejects = list[Reject]()
        with self._savepoint():
            types = self._column_types
            with cursor.copy(statement) as copy:
                copy.set_types(types)
                for row in decode_each(self.source, entries, rejects):
                    copy.write_row((self.import_id, *msgspec.structs.astuple(row)))
        return _written(len(entries), len(entries) - len(rejects), rejects)

    @cached_property
    def _column_types(self) -> Sequence[int]:
        """As the table has them: in binary form, COPY converts nothing."""
        query, _ = _copy_statements(type(self.source))
        return [column.type_code for column in self._driver.execute(query).description or ()]

    def _insert_or_skip(self, batches: Sequence[Sequence[Entry]]) -> Outcome:
        """All or nothing. Only a total is asked for, so the driver sends all batches before it
        awaits an answer.
        """
        rejects = list[Reject]()
        with self._savepoint():
            written = self.session.connection().execute(
                _insert_statement(type(self.source), "skip"),
                [self._parameters(batch, rejects) for batch in batches],
                execution_options={"preserve_rowcount": True},
            )
        return _written(sum(map(len, batches)), int(written.rowcount), rejects)

    def _insert_counting(self, batches: Sequence[Sequence[Entry]]) -> Outcome:
        """All or nothing, batch by batch: each tells which rows it wrote, and which are new."""
        with self._savepoint():
            return sum(map(self._insert_batch, batches), Outcome())

    def _insert_batch(self, batch: Sequence[Entry]) -> Outcome:
        connection = self.session.connection()
        rejects = list[Reject]()
        parameters = self._parameters(batch, rejects)
        statement = _counting_statement(type(self.source), self.plan.on_conflict)
        written = connection.execute(statement, parameters).one()
        for detail in self.source.details:
            connection.execute(detail, {"batch": parameters["batch"], "ids": written.ids})
        updated = written.rows - written.imported
        return _written(len(batch), written.imported, rejects, updated)

    def _parameters(self, batch: Sequence[Entry], rejects: list[Reject]) -> dict[str, str]:
        rows = msgspec.json.encode(list(decode_each(self.source, batch, rejects)))
        return {"batch": rows.decode(), "import_id": self.import_id}

    def _savepoint(self) -> AbstractContextManager[object]:
        """The driver's own: SQLAlchemy's takes longer than the INSERT of ten users in it.

        Without a statement before it in the session, it would be a transaction, and commit.
        """
        return self._driver.transaction()

    @property
    def _driver(self) -> "psycopg.Connection[Any]":
        driver: Any = self.session.connection().connection.driver_connection
        return driver  # type: ignore[no-any-return]


def _written(sent: int, imported: int, rejects: Sequence[Reject], updated: int = 0) -> Outcome:
    """What is neither written nor rejected was there, and is skipped."""
    skipped = sent - imported - updated - len(rejects)
    return Outcome(Counts(imported, updated, skipped, len(rejects)), rejects)


def _rejected(rejects: Sequence[Reject]) -> Outcome:
    return Outcome(Counts(rejected=len(rejects)), rejects)


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


@cache
def _copy_statements(source: type[Source]) -> tuple[bytes, bytes]:
    """One that tells the columns' types, and the COPY into these columns."""
    table = source.table()
    names = ["import_id", *source.row_type.__struct_fields__]
    target = sql.Identifier(*filter(None, (table.schema, table.name)))
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    return (
        sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, target).as_bytes(),
        sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, columns).as_bytes(),
    )


@cache
def _is_copied_exactly(source: type[Source]) -> bool:
    """Whether each field is of its column's own type: of others, the driver makes what it likes."""
    columns, fields = source.table().columns, get_type_hints(source.row_type)
    return all(
        name in columns and _without_none(hint) is EXACT.get(type(columns[name].type))
        for name, hint in fields.items()
    )


def _without_none(hint: Any) -> Any:
    """The type of an optional field."""
    types = [one for one in get_args(hint) if one is not type(None)]
    return types[0] if len(types) == 1 else hint


def _parts(entries: Sequence[Entry], error: Exception) -> Iterator[Sequence[Entry]]:
    """Those before the record at fault, it alone, and those after it; halves where the error does
    not say which it is.
    """
    at = _line(error)
    cuts = (len(entries) // 2,) if at is None else (at, at + 1)
    for start, end in pairwise((0, *cuts, len(entries))):
        if start < end:
            yield entries[start:end]


def _line(error: Exception) -> int | None:
    """Which row, from 0, COPY says it failed at; no other statement says that."""
    context = getattr(getattr(error, "diag", None), "context", None)
    found = COPY_LINE.match(context or "")
    return int(found["line"]) - 1 if found else None


def _refused(entry: Entry, error: Exception) -> Reject:
    diagnostic = getattr(getattr(error, "orig", error), "diag", None)
    place = getattr(diagnostic, "column_name", None) or getattr(diagnostic, "constraint_name", None)
    failure = replace(failure_of(error), path=place)
    key = None if entry.row is None else str(entry.row.id)
    return Reject(entry.position, entry.record, key, "insert", failure)
