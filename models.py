r"""The tables. Alembic's migrations make them; `\\d+` in pgcli shows these comments."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

REVISION = "0003"
"""The newest migration: what a database must be at for this code to work on it."""


class Base(DeclarativeBase):
    """Every table's metadata, with names for constraints that a migration can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text,
        bytes: LargeBinary,
        float: Double,
        datetime: DateTime(timezone=True),
        UUID: Uuid,
        dict[str, Any]: JSONB,
    }


class RandomUsers(Base):
    __tablename__ = "random_users"
    __table_args__ = {"comment": "Users of randomuser.me, one row each"}

    id: Mapped[UUID] = mapped_column(primary_key=True, comment="login.uuid, the natural key")
    gender: Mapped[str]
    title: Mapped[str] = mapped_column(comment="name.title")
    first_name: Mapped[str] = mapped_column(comment="name.first")
    last_name: Mapped[str] = mapped_column(comment="name.last")
    street_number: Mapped[int] = mapped_column(comment="location.street.number")
    street_name: Mapped[str] = mapped_column(comment="location.street.name")
    city: Mapped[str] = mapped_column(comment="location.city")
    state: Mapped[str] = mapped_column(comment="location.state")
    country: Mapped[str] = mapped_column(comment="location.country")
    postcode: Mapped[str] = mapped_column(comment="location.postcode: a number or text in the API")
    latitude: Mapped[float] = mapped_column(comment="Degrees, -90 to 90")
    longitude: Mapped[float] = mapped_column(comment="Degrees, -180 to 180")
    timezone_offset: Mapped[str] = mapped_column(comment="From UTC, such as +5:45")
    timezone_description: Mapped[str]
    email: Mapped[str] = mapped_column(comment="Not unique")
    username: Mapped[str] = mapped_column(comment="login.username, not unique")
    salt: Mapped[str] = mapped_column(comment="login.salt")
    md5: Mapped[str] = mapped_column(comment="login.md5")
    sha1: Mapped[str] = mapped_column(comment="login.sha1")
    sha256: Mapped[str] = mapped_column(comment="login.sha256")
    date_of_birth: Mapped[datetime] = mapped_column(comment="dob.date")
    age: Mapped[int] = mapped_column(comment="dob.age: years on the day the API answered")
    registered_at: Mapped[datetime] = mapped_column(comment="registered.date")
    phone: Mapped[str]
    cell: Mapped[str]
    id_name: Mapped[str] = mapped_column(comment="id.name: kind of national id, or empty")
    id_value: Mapped[str | None] = mapped_column(comment="id.value")
    picture_large: Mapped[str] = mapped_column(comment="URL")
    picture_medium: Mapped[str] = mapped_column(comment="URL")
    picture_thumbnail: Mapped[str] = mapped_column(comment="URL")
    nat: Mapped[str] = mapped_column(comment="Nationality, two letters")
    import_id: Mapped[str] = mapped_column(
        index=True,
        # No foreign key: its check would cost every row a look-up to prove what the loader knows.
        comment="The import that wrote this row last (imports.id)",
    )
    imported_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Errors(Base):
    __tablename__ = "errors"
    __table_args__ = (
        Index("ix_errors_import_id", text("((message ->> 'import_id'::text))")),
        {"comment": "What could not be loaded: one row for each rejected record or failed chunk"},
    )

    id: Mapped[UUID] = mapped_column(
        primary_key=True, comment="Made of the import and the position, so that none comes twice"
    )
    message: Mapped[dict[str, Any]] = mapped_column(
        comment="import_id, position (from 0), user_id, stage (decode, insert, chunk), "
        "error {type, detail, path, sqlstate}, attempts, record (as it came, without secrets)"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Imports(Base):
    __tablename__ = "imports"
    __table_args__ = {"comment": "Every import asked for. How its work stands, DBOS knows"}

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(comment="The API the records are of")
    seed: Mapped[str | None] = mapped_column(comment="The seed asked of the API, where one was")
    options: Mapped[dict[str, Any]] = mapped_column(comment="What was asked for, and from where")
    state: Mapped[str] = mapped_column(
        comment="running, complete, complete_with_rejects, incomplete, cancelled or abandoned"
    )
    reason: Mapped[str | None] = mapped_column(comment="Why it is incomplete, where known")
    attempt: Mapped[int] = mapped_column(comment="The DBOS workflow is named import.attempt")
    users: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    imported: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    skipped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rejected: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    resumed_at: Mapped[datetime] = mapped_column(
        server_default=text("now()"), comment="When the newest attempt began"
    )
    finished_at: Mapped[datetime | None]


class StagedPages(Base):
    __tablename__ = "staged_pages"
    __table_args__ = {"comment": "Pages as they came, without secrets, until their import is done"}

    import_id: Mapped[str] = mapped_column(primary_key=True)
    page: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="From 1")
    next_cursor: Mapped[str | None] = mapped_column(
        comment="Where the source goes on after this page; null after the last"
    )
    payload: Mapped[bytes] = mapped_column(
        comment="The chunks, one compressed block each, one after the other"
    )


class Chunks(Base):
    __tablename__ = "chunks"
    __table_args__ = (
        Index(
            "ix_chunks_remaining",
            "import_id",
            "chunk",
            postgresql_where=text("loaded_at IS NULL AND failed_at IS NULL"),
        ),
        {"comment": "What each chunk of an import covers, and what became of it"},
    )

    import_id: Mapped[str] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="From 0")
    page: Mapped[int]
    position: Mapped[int] = mapped_column(
        BigInteger, comment="Of its first record in the whole import, from 0"
    )
    users: Mapped[int] = mapped_column(comment="Records in it")
    block_offset: Mapped[int] = mapped_column(comment="Of its block in the page's payload, bytes")
    block_length: Mapped[int] = mapped_column(comment="Of its block, bytes")
    takeovers: Mapped[int] = mapped_column(
        server_default=text("0"), comment="How often the worker that had it died"
    )
    last_death: Mapped[str | None] = mapped_column(
        comment="The one counted last: of which worker, and when that had taken the chunk"
    )
    imported: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    updated: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    skipped: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    rejected: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    executor_id: Mapped[str | None] = mapped_column(comment="The process that ended it")
    started_at: Mapped[datetime | None]
    loaded_at: Mapped[datetime | None] = mapped_column(comment="Set with the rows, never without")
    failed_at: Mapped[datetime | None]
