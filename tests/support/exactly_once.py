"""A file of users, whole ones and broken ones, and the proof that each is in its one place."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.support.databases import Sql
from tests.support.programs import Process
from tests.support.users import lines_of, users, without

SMALL_CHUNKS = ("--chunk-size", "25", "--concurrency", "1")
"""Keep an import of some thousand users under way for long enough to hit it anywhere."""


@dataclass(frozen=True)
class UsersFile:
    """`broken` are the positions of users that have no email."""

    path: Path
    ids: frozenset[UUID]
    broken: frozenset[int]

    @property
    def count(self) -> int:
        return len(self.ids) + len(self.broken)


def write_users(folder: Path, count: int = 3_000, broken_every: int = 1_000) -> UsersFile:
    """A .jsonl of `count` users."""
    found = users(count)
    broken = frozenset(range(7, count, broken_every))
    lines = [without(user, "email") if i in broken else user for i, user in enumerate(found)]
    path = folder / "users.jsonl"
    path.write_bytes(lines_of(lines))
    whole = (user for i, user in enumerate(found) if i not in broken)
    return UsersFile(path, frozenset(UUID(user["login"]["uuid"]) for user in whole), broken)


def assert_exactly_once(sql: Sql, file: UsersFile) -> None:
    """Each user in one place, the import's counts right, and nothing left over."""
    assert sorted(sql("SELECT id FROM random_users")) == sorted((id_,) for id_ in file.ids)
    positions = sql("SELECT (message ->> 'position')::int FROM errors")
    assert sorted(positions) == sorted((position,) for position in file.broken)
    [(state, *counts)] = sql(
        "SELECT state, users, imported, updated, skipped, rejected FROM imports"
    )
    assert counts == [file.count, len(file.ids), 0, 0, len(file.broken)]
    assert state == ("complete_with_rejects" if file.broken else "complete")
    assert sql("SELECT * FROM staged_pages") == []
    unfinished = "SELECT workflow_uuid, status FROM dbos.workflow_status WHERE status NOT IN "
    assert sql(f"{unfinished} ('SUCCESS', 'CANCELLED')") == []


def loaded_chunks(sql: Sql) -> int:
    return int(sql.value("SELECT count(*) FROM chunks WHERE loaded_at IS NOT NULL"))


def is_complete(sql: Sql) -> bool:
    return bool(sql("SELECT 1 FROM imports WHERE state LIKE 'complete%'"))


def has_ended(sql: Sql) -> bool:
    """Whether the import's workflow has too, a moment after the import is complete."""
    query = "SELECT 1 FROM dbos.workflow_status WHERE name = 'import_users' AND status = 'SUCCESS'"
    return is_complete(sql) and bool(sql(query))


def work_in_hand(sql: Sql, process: Process) -> list[str]:
    """Workflows that DBOS has this process down for."""
    query = "SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING'"
    return [row[0] for row in sql(f"{query} AND executor_id LIKE %s", f"%-{process.pid}-%")]


def is_blocked(sql: Sql, process: Process) -> bool:
    """Whether a session of this process waits for a lock on a table."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'relation' AND application_name LIKE"
    return bool(sql(f"{query} %s", f"%-{process.pid}-%"))


def is_waiting(sql: Sql, process: Process) -> bool:
    """Whether a session of this process waits for a lock of any kind."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name"
    return bool(sql(f"{query} LIKE %s", f"%-{process.pid}-%"))
