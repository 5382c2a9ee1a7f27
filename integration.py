"""Imports users of randomuser.me into PostgreSQL: all of them, once each, whatever dies on the way.

The story, in the order in which it happens: a parent workflow stages pages in PostgreSQL and puts
their chunks on a queue; child workflows load the chunks, in any process that listens; the parent
adds up what has become of them. DBOS checkpoints each step in PostgreSQL, the loading ones in the
same transaction as their rows, so a crash leaves nothing half done, and nothing to be done twice.
"""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from dbos import DBOS, StepOptions

import commands
import imports
import liveness
import loader
import pages
import rejects
import runtime
import telemetry
from database import database, reason, transaction
from imports import Attempt, Plan
from options import Workflows
from source import load

log = logging.getLogger(__name__)


@DBOS.workflow(name="import_users")
def import_users(import_id: str, attempt: int) -> dict[str, Any]:
    """Brings one import in as far as it goes, and returns its summary.

    After a crash it goes on at its next step: what is staged stays staged, what is loaded loaded.
    Whatever stops it is the reason that it is incomplete for; the next attempt goes on from there.
    """
    with telemetry.working_on(import_id):
        plan = transaction("begin_import", imports.begin, import_id, attempt)
        if plan is None:
            return transaction("summarize_import", imports.summary, import_id)
        this = Attempt(id=import_id, attempt=attempt, plan=msgspec.convert(plan, Plan))
        staging_problem = problem_of(stage, this)
        waiting_problem = problem_of(await_chunks, this)
        problem = staging_problem or waiting_problem
        summary = transaction("finish_import", imports.finish, import_id, attempt, problem)
        DBOS.run_step({"name": "end_trace"}, runtime.end_trace, import_id)
        return summary


def problem_of(part: Callable[[Attempt], None], this: Attempt) -> str | None:
    """Does a part of an import; returns what stopped it. No reason may leave it without an end."""
    try:
        part(this)
    except Exception as error:
        log.debug("the reason in full", exc_info=True)
        return reason(error)
    return None


def stage(this: Attempt) -> None:
    """Brings every page into PostgreSQL and its chunks onto the queue."""
    source = load(this.plan.source)
    if this.plan.path is not None:
        DBOS.run_step({"name": "stage_file"}, pages.stage_file, source, this)
        return
    # Page by page, each a step, so that a crash goes on at the next one.
    number = 1
    cursor: str | None = source.first_cursor
    while cursor is not None:
        step: StepOptions = {"name": f"stage_page_{number}"}
        cursor = DBOS.run_step(step, pages.stage_fetched, source, this, number, cursor)
        number += 1


def await_chunks(this: Attempt) -> None:
    """Waits until each chunk is loaded or given up, whoever has it, or the import is cancelled."""
    DBOS.run_step({"name": "await_chunks"}, liveness.await_chunks, this)


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


if __name__ == "__main__":
    commands.main(Workflows(import_users))
