"""Rejected records and chunks as rows of `errors`: one each, whatever the record holds."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from database import reason, recordset, sqlstate
from models import Errors

ERROR_NAMESPACE = uuid.UUID("6f1d6c0e-2c0e-4b0f-9a52-0d8f3b9d5c11")
"""Of the version 5 UUIDs that give each rejected record its one row."""

DATA_ERRORS = ("22", "23")
"""SQLSTATE classes that blame the data: data exception, integrity constraint violation."""


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


def write_rejects(session: Session, import_id: str, rejects: Sequence[Reject]) -> None:
    """One row of `errors` for each; one that has a row already has failed once more."""
    if not rejects:
        return
    try:
        with session.connection().begin_nested():
            _write_rejects(session, import_id, rejects, as_json)
    except DBAPIError as error:
        if not blames_data(error):
            raise
        # JSON has numbers, such as 1e-20000, that jsonb refuses.
        if len(rejects) == 1:
            _write_rejects(session, import_id, rejects, as_text)
            return
        for reject in rejects:
            write_rejects(session, import_id, [reject])


def failure_of(error: Exception) -> Failure:
    """An error as `errors` shows it."""
    kind = getattr(error, "orig", None) or error
    return Failure(type(kind).__name__, storable(reason(error)), sqlstate=sqlstate(error))


def blames_data(error: BaseException) -> bool:
    """Whether an error is the fault of what was sent, not of the server or the code."""
    return (sqlstate(error) or "")[:2] in DATA_ERRORS


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
        counting_attempts(statement), {"batch": msgspec.json.encode(rows).decode()}
    )


def counting_attempts(statement: Insert) -> Insert:
    """The new message takes the place of the old one, and goes on with its count."""
    attempts = Errors.message["attempts"].as_integer() + 1
    message = statement.excluded.message.concat(func.jsonb_build_object("attempts", attempts))
    return statement.on_conflict_do_update(index_elements=[Errors.id], set_={"message": message})


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
