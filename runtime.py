"""A process at work: DBOS launched, its queues known, its presence shown, its end orderly."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error
from sqlalchemy.exc import DBAPIError

import database
import imports
import settings
import telemetry
from database import Database, NotMigrated, retry_after_outage, transaction
from imports import Import, Totals
from liveness import Presence
from pages import CHUNK_WORKFLOW
from settings import CHUNK_POLLING_SECONDS, TAKEOVER_POLLING_SECONDS
from workflows import ACTIVE, find_workflows

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
SWITCH_SECONDS = 0.001
"""After which a thread that computes lets another have the interpreter: by default 0.005. A chunk
asks PostgreSQL some twenty things, and waits that long after each while another chunk computes."""

STOP_SECONDS = 6
"""For the chunks in hand to be finished; what is not is rolled back, and done by the next."""

INTERRUPTED = 130


class Interrupted(Exception):
    """The process was told to stop (SIGINT, SIGTERM)."""


class Stop:
    """Set by SIGINT and SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def wait(self, seconds: float) -> bool:
        """Whether it is set, after at most `seconds`."""
        return self._event.wait(seconds)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(INTERRUPTED)
        self._event.set()


@contextmanager
def working(concurrency: int | None) -> Iterator[Database]:
    """Takes chunks, and looks after those of dead processes, for as long as it is entered.

    `concurrency` chunks at a time; None leaves what the last process has set, 0 leaves the chunks
    to other processes. On leaving, no new chunk is taken, and those in hand have STOP_SECONDS.
    Raises NotMigrated.
    """
    ours = database.database()
    database.require_current(ours.engine)
    with Presence(ours) as presence:
        _register_queues(ours.client, concurrency or None)
        _launch(ours, _queues_of(concurrency))
        presence.start()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            yield ours
        finally:
            _leave(ours)


def is_under_way(client: DBOSClient, this: Import) -> bool:
    """Whether a workflow of an import's newest attempt has yet to end, wherever it runs."""
    under_way = find_workflows(client, workflow_id_prefix=this.workflow_id, status=ACTIVE, limit=1)
    return bool(under_way)


def cancel(ours: Database, this: Import) -> Totals | None:
    """Ends an import for good; returns what it has come to, or None where it was not running.

    First its row, which whatever begins now looks at: DBOS stops only between two steps. Then its
    workflows, the parent before its chunks. The chunks in hand have STOP_SECONDS to be counted too.
    Started again after a crash, it does the rest.
    """
    if not transaction("cancel_import", imports.mark_cancelled, this.id):
        return None
    ours.client.cancel_workflow(this.workflow_id)
    while chunks := find_workflows(
        ours.client, workflow_id_prefix=f"{this.workflow_id}.", status=ACTIVE, limit=1_000
    ):
        ours.client.cancel_workflows([status.workflow_id for status in chunks])
    give_up_at = time.monotonic() + STOP_SECONDS
    while transaction("look_for_chunks", imports.has_chunks_in_hand, this.id):
        if time.monotonic() > give_up_at:
            break
        time.sleep(LOOK_SECONDS)
    totals = transaction("settle_cancelled", imports.settle_cancelled, this.id)
    end_trace(this.id)
    return totals


def end_trace(import_id: str) -> None:
    """Sends the root of the trace of an import's newest attempt, which has ended."""
    if not telemetry.is_tracing():
        return
    this = transaction("get_import", imports.get, import_id)
    telemetry.export_root(
        this.id,
        this.attempt,
        this.resumed_at,
        this.finished_at or datetime.now(UTC),
        **{"import.state": this.state, "import.source": this.plan.source},
        **{f"import.{name}": count for name, count in asdict(this.totals).items()},
    )


def end(status: int) -> None:
    """Ends the process: a thread that waits for an import under way would keep it for hours."""
    telemetry.stop_tracing()
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(status)


@retry_after_outage
def _register_queues(client: DBOSClient, concurrency: int | None) -> None:
    """Before launch: DBOS looks for new queues only once a second."""
    queues = (
        (settings.CHUNK_QUEUE, concurrency or settings.DEFAULT_CONCURRENCY, CHUNK_POLLING_SECONDS),
        (settings.SUSPECT_QUEUE, 1, TAKEOVER_POLLING_SECONDS),
        (settings.IMPORT_QUEUE, None, TAKEOVER_POLLING_SECONDS),
    )
    for name, worker_concurrency, polling_seconds in queues:
        client.register_queue(
            name,
            worker_concurrency=worker_concurrency,
            polling_interval_sec=polling_seconds,
            on_conflict="never_update" if concurrency is None else "always_update",
        )


def _queues_of(concurrency: int | None) -> Sequence[str]:
    """Those that a process takes work from: parents also where it takes no chunks."""
    chunks = () if concurrency == 0 else (settings.CHUNK_QUEUE, settings.SUSPECT_QUEUE)
    return (settings.IMPORT_QUEUE, *chunks)


@retry_after_outage
def _launch(ours: Database, queues: Sequence[str]) -> None:
    config: DBOSConfig = {
        "name": settings.APPLICATION_NAME,
        "system_database_url": ours.engine.url.set(drivername="postgresql").render_as_string(
            hide_password=False
        ),
        "system_database_engine": ours.engine,
        "executor_id": ours.executor_id,
        "application_version": settings.APPLICATION_VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "run_migrations": False,
        "log_level": telemetry.quiet_level(),
        "enable_otlp": telemetry.is_tracing(),
        "otel_attribute_format": "semconv",
        # Of DBOS's notifications, which nothing here sends: by default it looks 100 times a second.
        "notification_coalesce_sec": 1.0,
    }
    DBOS(config=config)
    DBOS.listen_queues(queues)
    try:
        DBOS.launch()
    except dbos_error.DBOSInitializationError as error:
        raise NotMigrated(f"{error}\n{database.MIGRATE_FIRST}") from error
    except DBAPIError:
        # One that has tried to launch does not try again.
        DBOS.destroy()
        raise


def _leave(ours: Database) -> None:
    # In threads: the one waits for a parent too, which may have hours to go and is taken over
    # instead, the other for a server that may be away.
    destroy: dict[str, Any] = {"workflow_completion_timeout_sec": STOP_SECONDS}
    threading.Thread(target=DBOS.destroy, kwargs=destroy, daemon=True).start()
    finishing = threading.Thread(target=_finish_chunks, args=[ours], daemon=True)
    finishing.start()
    finishing.join(STOP_SECONDS)


def _finish_chunks(ours: Database) -> None:
    # What DBOS's queues were being asked for just now is in hand as well.
    for thread in threading.enumerate():
        if thread.name.startswith("queue-worker-"):
            thread.join()
    while _has_chunks_in_hand(ours):
        time.sleep(LOOK_SECONDS)


def _has_chunks_in_hand(ours: Database) -> bool:
    in_hand = find_workflows(
        ours.client,
        executor_id=ours.executor_id,
        status="PENDING",
        name=CHUNK_WORKFLOW,
        limit=1,
    )
    return bool(in_hand)
