"""The views, for whoever asks the database: in pgcli, and behind `status`, `errors`, the report.

Migrations make them. Their metadata is its own, so that Alembic doesn't take them for tables.
"""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Numeric, Table, Text

VIEWS = MetaData()

import_totals = Table(
    "import_totals",
    VIEWS,
    Column("import_id", Text),
    Column("source", Text),
    Column("origin", Text),
    Column("state", Text),
    Column("reason", Text),
    Column("attempt", Integer),
    Column("started_at", DateTime(timezone=True)),
    Column("resumed_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("wanted", BigInteger),
    Column("users", BigInteger),
    Column("imported", BigInteger),
    Column("updated", BigInteger),
    Column("skipped", BigInteger),
    Column("rejected", BigInteger),
    Column("pages", Integer),
    Column("chunks", BigInteger),
    Column("loaded_chunks", BigInteger),
    Column("failed_chunks", BigInteger),
    Column("takeovers", BigInteger),
    Column("workers", BigInteger),
    Column("seconds", Numeric),
    Column("users_per_second", Numeric),
)

errors_by_reason = Table(
    "errors_by_reason",
    VIEWS,
    Column("import_id", Text),
    Column("stage", Text),
    Column("field", Text),
    Column("reason", Text),
    Column("errors", BigInteger),
    Column("example_position", BigInteger),
    Column("example_user", Text),
)

users_by_import = Table(
    "users_by_import",
    VIEWS,
    Column("import_id", Text),
    Column("users", BigInteger),
    Column("first_imported_at", DateTime(timezone=True)),
    Column("last_imported_at", DateTime(timezone=True)),
)
