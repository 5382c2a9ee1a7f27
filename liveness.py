"""Who is alive, and who takes over from the dead: with PostgreSQL's advisory locks alone.

Every process that works holds a lock named after it, on a connection of its own. The server frees
it within milliseconds when the process dies, and within `SILENCE_SECONDS` when the process is
stopped or cut off. Whoever finds the lock of a process that has work under way free, and still so
`ABSENCE_SECONDS` later, knows that it is dead, and puts its work back on the queues. DBOS fences a
process that comes back: what was taken over it can no longer commit.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from dbos import DBOS, WorkflowStatus
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    ScalarSelect,
    Text,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, OID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import imports
import loader
import rejects
import settings
import telemetry
from database import Database, database, retry_after_outage, transaction
from imports import Attempt
from models import Chunks
from pages import CHUNK_WORKFLOW
from workflows import ACTIVE, find_workflows

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1
ABSENCE_SECONDS = 3
"""For which a process's lock has to be free: one that lives takes it again when it was only cut
off, or when the server was away, and its work must not count as that of a dead one."""

SILENCE_SECONDS = 9
"""After which the server gives a silent process's lock away; with its absence and the heartbeat
until somebody looks, work is taken over within 15."""

AWAIT_SECONDS = 0.05
ENDED_CHUNKS_SECONDS = 2
"""How often the parent asks DBOS whether the chunks it waits for are still to come."""

MAX_TAKEOVERS = 3
LOCK_CLASS = 0x64626F73
"""Keeps these locks apart from other advisory locks of the database."""
TWO_KEYS = 2
"""How pg_locks marks an advisory lock that has a class and a number."""

PG_LOCKS = table(
    "pg_locks",
    column("classid"),
    column("objid"),
    column("objsubid"),
    column("database"),
    column("granted"),
    column("pid"),
)
PG_STAT_ACTIVITY = table("pg_stat_activity", column("pid"), column("backend_start"))
PG_DATABASE = table("pg_database", column("oid"), column("datname"))


class Presence:
    """Shows the others that this process lives, and looks after those that don't.

    Entered before the process takes up work, left after its last. A process that lost its lock
    takes it again before it looks after others; its work may have gone to them meanwhile.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._sweep_now = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="liveness", daemon=True)
        self._connection: Connection | None = None
        self._absences = Absences()

    def __enter__(self) -> "Presence":
        self._connection = retry_after_outage(self._lock)()
        return self

    def start(self) -> None:
        """Begins to look after others: once DBOS is launched."""
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(HEARTBEAT_SECONDS)
        # A thread that still waits for the server has the connection, until the process ends.
        if self._connection is not None and not self._thread.is_alive():
            self._connection.close()

    def _keep(self) -> None:
        while True:
            try:
                if self._connection is None:
                    self._connection = self._lock()
                take_over_from_dead(self._connection, self._database.executor_id, self._absences)
            except DBAPIError as error:
                log.warning("lost contact with PostgreSQL: %s", str(error.orig).strip())
                self._drop()
            except Exception:
                log.exception("could not look after the work of dead processes")
            if self._stop.wait(HEARTBEAT_SECONDS):
                return

    def _lock(self) -> Connection:
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        connection = engine.connect()
        try:
            # With the settings below, it must not come back to the pool.
            connection.detach()
            for setting, value in (
                ("idle_session_timeout", f"{SILENCE_SECONDS}s"),
                ("tcp_keepalives_idle", "2"),
                ("tcp_keepalives_interval", "1"),
                ("tcp_keepalives_count", "3"),
            ):
                connection.execute(
                    text("SELECT set_config(:setting, :value, false)"),
                    {"setting": setting, "value": value},
                )
            connection.execute(
                text("SELECT pg_advisory_lock(:class, hashtext(:name))"),
                {"class": LOCK_CLASS, "name": self._database.executor_id},
            )
        except DBAPIError:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        # The others may have lost theirs with the same server: they too have the time to come back.
        self._absences = Absences()


class Absences:
    """Since when the locks of other processes have been seen free."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def is_over(self, executor_id: str, is_free: bool) -> bool:
        """Notes a look at a process's lock; true when it has now been free for too long."""
        if not is_free:
            self._since.pop(executor_id, None)
            return False
        now = time.monotonic()
        return now - self._since.setdefault(executor_id, now) >= ABSENCE_SECONDS

    def forget_all_but(self, executor_ids: Collection[str]) -> None:
        """Those that have no work left are of no interest."""
        self._since = {name: at for name, at in self._since.items() if name in executor_ids}


def living_since() -> ScalarSelect[Any]:
    """In SQL: since when at least one process lives; null where none does.

    A role that may not see the sessions of others learns only that one does.
    """
    began = func.coalesce(
        func.min(PG_STAT_ACTIVITY.c.backend_start), literal_column("'-infinity'::timestamptz")
    )
    return (
        select(case((func.count() > 0, began)))
        .select_from(PG_LOCKS)
        .join(PG_STAT_ACTIVITY, PG_STAT_ACTIVITY.c.pid == PG_LOCKS.c.pid)
        .where(_is_presence())
        .scalar_subquery()
    )


def is_alone(session: Session) -> bool:
    """Whether this process, which shows its presence, is the only one."""
    present = select(func.count()).select_from(PG_LOCKS).where(_is_presence())
    return (session.scalar(present) or 0) <= 1


def living(session: Session, executor_ids: Collection[str]) -> set[str]:
    """Those of them whose processes live."""
    name = func.unnest(cast(list(executor_ids), ARRAY(Text))).column_valued("name")
    is_theirs = PG_LOCKS.c.objid == cast(func.hashtext(name), OID)
    query = select(name).where(exists().where(_is_presence(), is_theirs))
    return set(session.scalars(query)) if executor_ids else set()


def _is_presence() -> ColumnElement[bool]:
    """Whether a row of pg_locks is the lock of a living process, of this database."""
    here = select(PG_DATABASE.c.oid).where(PG_DATABASE.c.datname == func.current_database())
    return and_(
        PG_LOCKS.c.classid == LOCK_CLASS,
        PG_LOCKS.c.objsubid == TWO_KEYS,
        PG_LOCKS.c.database == here.scalar_subquery(),
        PG_LOCKS.c.granted,
    )


def await_chunks(this: Attempt) -> None:
    """Returns when each chunk is loaded or given up, whoever has it, or the import is cancelled."""
    look_for_ended_at = time.monotonic() + ENDED_CHUNKS_SECONDS
    while transaction("look_for_chunks", imports.has_remaining_chunks, this.id):
        time.sleep(AWAIT_SECONDS)
        if time.monotonic() > look_for_ended_at:
            if _is_cancelled(this):
                return
            _give_up_ended_chunks(this)
            look_for_ended_at = time.monotonic() + ENDED_CHUNKS_SECONDS
    # A workflow ends a moment after its chunk is loaded; where its process died in between, another
    # one takes it over. Nothing of a finished import is left to be done.
    while _has_chunks_under_way(this):
        time.sleep(AWAIT_SECONDS)


def _is_cancelled(this: Attempt) -> bool:
    """Whether the import's parent workflow was cancelled, by DBOS's own command too."""
    parent = find_workflows(database().client, workflow_ids=[this.workflow_id])
    return bool(parent) and parent[0].status == "CANCELLED"


def _has_chunks_under_way(this: Attempt) -> bool:
    """Whether the workflow of a chunk has yet to end, loaded or not."""
    under_way = find_workflows(
        database().client, workflow_id_prefix=f"{this.workflow_id}.", status=ACTIVE, limit=1
    )
    return bool(under_way)


def _give_up_ended_chunks(this: Attempt) -> None:
    """Gives up chunks that nobody will load: their workflow was cancelled, or could not even fail.

    Looks at the first hundred of those that remain: the others' turn comes when these are gone.
    """
    remaining = transaction("list_chunks", imports.remaining_chunks, this.id, 100)
    workflows = {
        imports.chunk_workflow_id(this.id, this.attempt, chunk): chunk for chunk in remaining
    }
    alive = find_workflows(database().client, workflow_ids=list(workflows), status=ACTIVE)
    for workflow_id in workflows.keys() - {status.workflow_id for status in alive}:
        failure = rejects.Failure(
            "WorkflowEnded", f"Workflow {workflow_id} ended without loading it"
        )
        transaction("fail_chunk", loader.fail_chunk, this.id, workflows[workflow_id], None, failure)


def take_over_from_dead(connection: Connection, executor_id: str, absences: Absences) -> None:
    """Puts the work of every dead process back on the queues, once it is known to be dead."""
    # Asked of the server even when nobody else works: it keeps the lock's session awake.
    connection.execute(text("SELECT 1"))
    busy = find_workflows(database().client, status="PENDING")
    others = {status.executor_id for status in busy if status.executor_id} - {executor_id}
    absences.forget_all_but(others)
    for other in sorted(others):
        with _holding(connection, other) as is_free:
            if absences.is_over(other, is_free):
                _take_over(connection, other)


@contextmanager
def _holding(connection: Connection, executor_id: str) -> Iterator[bool]:
    """Holds a process's lock, where it is free: nobody else then takes its work over."""
    name = {"class": LOCK_CLASS, "name": executor_id}
    is_free = connection.scalar(text("SELECT pg_try_advisory_lock(:class, hashtext(:name))"), name)
    try:
        yield bool(is_free)
    finally:
        if is_free:
            connection.execute(text("SELECT pg_advisory_unlock(:class, hashtext(:name))"), name)


def _take_over(connection: Connection, dead: str) -> None:
    # Listed again under the lock: another process may have been here first.
    left = find_workflows(database().client, executor_id=dead, status="PENDING")
    if not left:
        return
    log.warning("taking over the work of %s, which is dead", dead)
    # Its open transactions hold the chunks' rows, in which takeovers are counted.
    _end_sessions(connection, dead)
    chunks = [status for status in left if status.name == CHUNK_WORKFLOW]
    parents = [status for status in left if status.name != CHUNK_WORKFLOW]
    poisonous = {status.workflow_id for status in chunks if _is_poisonous(status, dead)}
    for workflow_id in poisonous:
        DBOS.cancel_workflow(workflow_id)
    _resume([s for s in chunks if s.workflow_id not in poisonous], settings.SUSPECT_QUEUE)
    for parent in parents:
        with _traced(parent):
            telemetry.event("takeover", **{"takeover.from": dead})
    _resume(parents, settings.IMPORT_QUEUE)
    # Again: what the dead one began meanwhile would hold up its successor.
    _end_sessions(connection, dead)


def _end_sessions(connection: Connection, executor_id: str) -> None:
    connection.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = :name AND pid <> pg_backend_pid()"
        ),
        {"name": executor_id},
    )


@contextmanager
def _traced(status: WorkflowStatus) -> Iterator[None]:
    """A span in the trace of the import that a workflow belongs to."""
    import_id, attempt = imports.of_workflow(status.workflow_id)
    with telemetry.in_import(import_id, attempt), telemetry.span("take_over"):
        yield


def _resume(workflows: Sequence[WorkflowStatus], queue: str) -> None:
    if workflows:
        DBOS.resume_workflows([status.workflow_id for status in workflows], queue_name=queue)


def _is_poisonous(status: WorkflowStatus, dead: str) -> bool:
    """Counts the worker's death; true when the chunk has now cost its third one."""
    attributes = status.attributes or {}
    import_id, chunk = attributes["import"], attributes["chunk"]
    with _traced(status), telemetry.working_on(import_id, chunk):
        # A worker that was only frozen may take the chunk again, and die of it.
        death = f"{dead} {status.dequeued_at}"
        takeovers = transaction("count_takeover", _count_takeover, import_id, chunk, death)
        telemetry.event("takeover", **{"takeover.from": dead, "takeover.count": takeovers})
        log.warning("taking chunk %s over from %s, which is dead", chunk, dead)
        if takeovers < MAX_TAKEOVERS:
            return False
        failure = rejects.Failure(
            "WorkerDied", f"Its worker died {takeovers} times while it had this chunk"
        )
        transaction("fail_chunk", loader.fail_chunk, import_id, chunk, dead, failure)
        log.error("chunk %s is given up: its worker died %s times", chunk, takeovers)
    return True


def _count_takeover(session: Session, import_id: str, chunk: int, death: str) -> int:
    """Counts a death once, however often it is noticed: whoever counted it may have died before
    the chunk was back on its queue.
    """
    is_new = Chunks.last_death.is_distinct_from(death)
    takeovers = session.scalar(
        update(Chunks)
        .where(Chunks.import_id == import_id, Chunks.chunk == chunk, Chunks.loaded_at.is_(None))
        .values(takeovers=Chunks.takeovers + cast(is_new, Integer), last_death=death)
        .returning(Chunks.takeovers)
    )
    return int(takeovers or 0)
