"""Views for whoever asks the database what came of an import."""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IMPORT_TOTALS = """
CREATE VIEW import_totals AS
SELECT
    imports.id AS import_id,
    imports.source,
    coalesce(imports.options ->> 'path', imports.options ->> 'url') AS origin,
    imports.state,
    imports.reason,
    imports.attempt,
    imports.started_at,
    imports.resumed_at,
    imports.finished_at,
    greatest(counted.users, (imports.options ->> 'count')::bigint) AS wanted,
    counted.users,
    counted.imported,
    counted.updated,
    counted.skipped,
    counted.rejected,
    counted.pages,
    counted.chunks,
    counted.loaded_chunks,
    counted.failed_chunks,
    counted.takeovers,
    counted.workers,
    round(extract(epoch FROM counted.last_loaded_at - imports.resumed_at), 3) AS seconds,
    round(
        counted.newly_loaded
        / nullif(extract(epoch FROM counted.last_loaded_at - imports.resumed_at), 0)
    ) AS users_per_second
FROM imports
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(users), 0) AS users,
        coalesce(sum(chunks.imported), 0) AS imported,
        coalesce(sum(chunks.updated), 0) AS updated,
        coalesce(sum(chunks.skipped), 0) AS skipped,
        coalesce(sum(chunks.rejected), 0) AS rejected,
        coalesce(max(page), 0) AS pages,
        count(*) AS chunks,
        count(loaded_at) AS loaded_chunks,
        count(failed_at) AS failed_chunks,
        coalesce(sum(takeovers), 0) AS takeovers,
        count(DISTINCT executor_id) AS workers,
        max(loaded_at) FILTER (WHERE loaded_at >= imports.resumed_at) AS last_loaded_at,
        sum(users) FILTER (WHERE loaded_at >= imports.resumed_at) AS newly_loaded
    FROM chunks
    WHERE chunks.import_id = imports.id
) AS counted
"""

ERRORS_BY_REASON = """
CREATE VIEW errors_by_reason AS
SELECT
    message ->> 'import_id' AS import_id,
    message ->> 'stage' AS stage,
    message #>> '{error,path}' AS field,
    message #>> '{error,detail}' AS reason,
    count(*) AS errors,
    min((message ->> 'position')::bigint) AS example_position,
    (array_agg(message ->> 'user_id' ORDER BY (message ->> 'position')::bigint))[1]
        AS example_user
FROM errors
GROUP BY 1, 2, 3, 4
"""

USERS_BY_IMPORT = """
CREATE VIEW users_by_import AS
SELECT
    import_id,
    count(*) AS users,
    min(imported_at) AS first_imported_at,
    max(imported_at) AS last_imported_at
FROM random_users
GROUP BY import_id
"""

COMMENTS = {
    "VIEW import_totals": "Imports, and what their chunks have committed so far",
    "COLUMN import_totals.origin": "The file or the API''s address",
    "COLUMN import_totals.resumed_at": "When the newest attempt began",
    "COLUMN import_totals.wanted": "Users asked for, or staged where no number was",
    "COLUMN import_totals.users": "Users staged",
    "COLUMN import_totals.workers": "Processes that loaded a chunk or gave one up",
    "COLUMN import_totals.seconds": "From the newest attempt''s beginning to its last commit",
    "COLUMN import_totals.users_per_second": "In these seconds",
    "VIEW errors_by_reason": "Rejected users and failed chunks, by import, field and reason",
    "COLUMN errors_by_reason.stage": "decode, insert or chunk",
    "COLUMN errors_by_reason.field": "Path in the record, or the constraint at fault",
    "COLUMN errors_by_reason.example_position": "Of the first such record, from 0",
    "COLUMN errors_by_reason.example_user": "Its id, where it still shows",
    "VIEW users_by_import": "Rows of random_users, by the import that wrote them last",
}


def upgrade() -> None:
    for view in (IMPORT_TOTALS, ERRORS_BY_REASON, USERS_BY_IMPORT):
        op.execute(view)
    for what, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment}'")


def downgrade() -> None:
    for view in ("users_by_import", "errors_by_reason", "import_totals"):
        op.execute(f"DROP VIEW {view}")
