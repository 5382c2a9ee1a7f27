"""Imports users of randomuser.me into PostgreSQL: all of them, once each, whatever dies on the way.

The story, in the order in which it happens: a parent workflow stages pages in PostgreSQL and puts
their chunks on a queue; child workflows load the chunks, in any process that listens; the parent
adds up what has become of them. DBOS checkpoints each step in PostgreSQL, the loading ones in the
same transaction as their rows, so a crash leaves nothing half done, and nothing to be done twice.
"""

import logging
import time
from dataclasses import replace
from typing import Any

from dbos import DBOS, PortableWorkflowError, StepOptions
from sqlalchemy.orm import Session

import commands
import imports
import liveness
import loader
import pages
import rejects
import runtime
import telemetry
from database import database, transaction
from imports import Import
from options import Workflows
from source import Source, SourceError, load

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
ENDED_CHUNKS_SECONDS = 2
"""How often the parent asks DBOS whether the chunks it waits for are still to come."""


@DBOS.workflow(name="import_users")
def import_users(import_id: str, attempt: int) -> dict[str, Any]:
    """Brings one import in as far as it goes, and returns its summary.

    After a crash it goes on at its next step: what is staged stays staged, what is loaded loaded.
    """
    with telemetry.working_on(import_id):
        transaction("begin_import", imports.begin, import_id)
        problem = stage(import_id, attempt)
        DBOS.run_step({"name": "await_chunks"}, await_chunks, import_id, attempt)
        summary = transaction("finish_import", imports.finish, import_id, problem)
        runtime.end_trace(import_id)
        return summary


def stage(import_id: str, attempt: int) -> str | None:
    """Brings every page into PostgreSQL and its chunks onto the queue; returns what stopped it."""
    with Session(database().engine) as session:
        this = replace(imports.get(session, import_id), attempt=attempt)
    source = load(this.plan.source)
    try:
        if this.plan.path is not None:
            DBOS.run_step({"name": "stage_file"}, pages.stage_file, source, this)
        else:
            stage_fetched(source, this)
    except (SourceError, PortableWorkflowError) as error:
        # The second is what DBOS makes of the first when it replays the step.
        return str(error)
    return None


def stage_fetched(source: Source, this: Import) -> None:
    """Fetches and stages page by page, each a step, so that a crash goes on at the next one."""
    number = 1
    cursor: str | None = source.first_cursor
    while cursor is not None:
        step: StepOptions = {"name": f"stage_page_{number}"}
        cursor = DBOS.run_step(step, pages.stage_fetched, source, this, number, cursor)
        number += 1


@DBOS.workflow(name=pages.CHUNK_WORKFLOW)
def import_chunk(import_id: str, chunk: int) -> dict[str, int] | None:
    """Loads one chunk in one transaction, DBOS's checkpoint included; returns its counts.

    What its records are at fault for becomes rows of `errors`. Anything else, such as a missing
    table, gives the chunk up for this attempt: that is one row of `errors`, and None.
    """
    ours = database()
    with telemetry.working_on(import_id, chunk):
        try:
            counts = transaction(
                "load_chunk", loader.load_chunk, import_id, chunk, ours.executor_id
            )
        except Exception as error:  # noqa: BLE001 (no reason may leave a chunk without a trace)
            failure = rejects.failure_of(error)
            transaction(
                "fail_chunk", loader.fail_chunk, import_id, chunk, ours.executor_id, failure
            )
            return None
        log.debug("loaded the chunk", extra=counts)
        return counts


def await_chunks(import_id: str, attempt: int) -> None:
    """Returns when each chunk is loaded or given up, whoever has it, or the import is cancelled."""
    look_for_ended_at = time.monotonic() + ENDED_CHUNKS_SECONDS
    while transaction("look_for_chunks", imports.has_remaining_chunks, import_id):
        time.sleep(POLL_SECONDS)
        if time.monotonic() > look_for_ended_at:
            if liveness.is_cancelled(import_id, attempt):
                return
            liveness.give_up_ended_chunks(import_id, attempt)
            look_for_ended_at = time.monotonic() + ENDED_CHUNKS_SECONDS
    # A workflow ends a moment after its chunk is loaded; where its process died in between, another
    # one takes it over. Nothing of a finished import is left to be done.
    while liveness.has_chunks_under_way(import_id, attempt):
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    commands.main(Workflows(import_users))
