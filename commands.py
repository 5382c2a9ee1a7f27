"""The command line: the commands that import, and how every command ends."""

import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from dbos import DBOS, PortableWorkflowError, SetWorkflowID, WorkflowHandle
from dbos import error as dbos_error
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError
from typer.completion import completion_init  # type: ignore[attr-defined]

import administration
import database
import imports
import inspection
import liveness
import planning
import postgres
import reporting
import retrying
import runtime
import settings
import telemetry
import terminal
from database import DatabaseError, NotMigrated, transaction
from imports import Import
from options import (
    EXIT_STATUS,
    NOT_COMPLETE,
    REJECTS,
    AsJson,
    ImportId,
    SourceName,
    Workflows,
    read_session,
)
from postgres import PostgresError
from reporting import ImportNotFound, Progress
from runtime import Interrupted, Stop
from settings import ImportOptions
from source import Source, SourceError, load
from terminal import ProgressView
from workflows import ACTIVE

log = logging.getLogger(__name__)

TOP_REASONS = 5
"""Shown when an import ends."""

RESULT_POLL_SECONDS = 0.05
CANCELLED_POLL_SECONDS = 0.5


class Cancelled(Exception):
    """Somebody cancelled the import while this process waited for it."""


class OtherVersion(Exception):
    """An import under way is the work of another application version."""


EXPECTED = (
    Cancelled,
    OtherVersion,
    DatabaseError,
    PostgresError,
    SourceError,
    ImportNotFound,
    PortableWorkflowError,
)


class OnConflict(StrEnum):
    skip = "skip"
    update = "update"


def _concurrency_option(least: int, remark: str = "") -> Any:
    return typer.Option(
        envvar="IMPORT_CONCURRENCY",
        min=least,
        help=f"Chunks at a time, in each process, until set anew{remark}.",
    )


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # What it would install is for a program on PATH: deploy/completion.bash is for ours.
    add_completion=False,
)


@app.callback()
def main_help() -> None:
    """Imports users of randomuser.me into PostgreSQL, exactly once, whatever dies on the way.

    Example: python integration.py import --count 200
    """


@app.command("import")
def import_(  # noqa: PLR0913, PLR0917 (one argument for each option)
    context: typer.Context,
    count: Annotated[
        int | None, typer.Option(envvar="IMPORT_COUNT", min=1, help="Users wanted.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(envvar="IMPORT_SEED", help="Fetch the users of this seed.")
    ] = None,
    nat: Annotated[
        str | None, typer.Option(envvar="IMPORT_NAT", help="Only these nationalities: us,fr")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            envvar="IMPORT_PARAMETER",
            help="One that the API of --source has; repeatable.",
        ),
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", envvar="IMPORT_INPUT", help="A .json or .jsonl file, also as .gz."),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", envvar="IMPORT_REFRESH", help="Fetch, whatever is cached.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", envvar="IMPORT_AGAIN", help="Run a complete import anew.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option(envvar="IMPORT_BATCH_SIZE", min=1, help="Users in an INSERT.")
    ] = settings.DEFAULT_BATCH_SIZE,
    chunk_size: Annotated[
        int, typer.Option(envvar="IMPORT_CHUNK_SIZE", min=1, help="Users in a transaction.")
    ] = settings.DEFAULT_CHUNK_SIZE,
    concurrency: Annotated[int | None, _concurrency_option(0, "; 0 leaves them to workers")] = None,
    source_name: SourceName = settings.DEFAULT_SOURCE,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(envvar="IMPORT_ON_CONFLICT", help="What to do with users already there."),
    ] = OnConflict.skip,
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", envvar="IMPORT_QUIET", help="Show warnings and errors only."),
    ] = False,
) -> None:
    """Import users: of the cache, of a file, or of the API.

    Started again, it goes on where it stopped, or says that it is complete.

    Example: python integration.py import --count 200
    """
    if batch_size > chunk_size:
        raise typer.BadParameter(
            f"--batch-size {batch_size} is larger than --chunk-size {chunk_size}"
        )
    source = load(source_name)
    options = ImportOptions(
        count=count,
        parameters=_parameters(source, parameter or [], {"seed": seed, "nat": nat}),
        input=input_,
        refresh=refresh,
        again=again,
        on_conflict=on_conflict.value,
        batch_size=batch_size,
        chunk_size=chunk_size,
    )
    if quiet:
        telemetry.quieten()
    workflows: Workflows = context.obj
    summary = run_import(
        workflows,
        source,
        options,
        concurrency,
        terminal.progress_view(Console(quiet=True) if quiet else terminal.stderr()),
    )
    if as_json:
        print(json.dumps(summary))
    elif not quiet:
        _show_summary(summary)
    raise typer.Exit(EXIT_STATUS.get(summary["status"], NOT_COMPLETE))


def _parameters(
    source: Source, assignments: Sequence[str], named: Mapping[str, str | None]
) -> tuple[tuple[str, str], ...]:
    """Those given, in either way. Raises typer.BadParameter for one that the source has not."""
    given = {name: value for name, value in named.items() if value}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign:
            raise typer.BadParameter(f"--parameter {assignment}: expected NAME=VALUE")
        given[name] = value
    if foreign := sorted(given.keys() - set(source.parameters)):
        known = ", ".join(source.parameters) or "none"
        raise typer.BadParameter(f"{source.name} has no parameter {foreign[0]}; it has: {known}")
    return tuple(given.items())


def run_import(
    workflows: Workflows,
    source: Source,
    options: ImportOptions,
    concurrency: int | None,
    view: ProgressView,
) -> dict[str, Any]:
    """Starts an import, goes on with it, or reports it; returns its summary."""
    plan = planning.plan_import(source, options)
    bring_up_to_date()
    database.require_table(database.database().engine, source.table(), source.alembic_config)
    this, is_new = transaction("find_or_create_import", imports.find_or_create, plan, options.again)
    client = database.database().client
    if this.state in imports.COMPLETE and not runtime.is_under_way(client, this):
        return _report_complete(this, source)
    with runtime.working(concurrency):
        stop = Stop()
        stop.listen()
        this = _startable(this)
        with telemetry.working_on(this.id):
            log.info("import %s %s", this.id, "begins" if is_new else "goes on")
            if concurrency == 0:
                _tell_of_missing_worker()
            return _watch(_start(workflows, this), this, stop, view)


def _tell_of_missing_worker() -> None:
    if transaction("look_for_others", liveness.is_alone):
        log.warning(
            "no worker is there to take the chunks: start one with `python integration.py worker`"
        )


def bring_up_to_date() -> None:
    """Migrates the database where it is not yet what this version needs."""
    try:
        database.require_current(database.database().engine)
    except NotMigrated:
        database.migrate()


def _report_complete(this: Import, source: Source) -> dict[str, Any]:
    missing = transaction("count_rows", reporting.missing_rows, this, source.model)
    if missing:
        raise SourceError(
            f"Import {this.id} was complete, but {missing:,} of the rows it wrote are gone from "
            f"{source.model.__tablename__}.\nTo import them anew: the same command with --again"
        )
    print(f"Import {this.id} is complete already; nothing to do.", file=sys.stderr)
    return transaction("summarize", imports.summary, this.id)


def _startable(this: Import) -> Import:
    """The import's newest attempt, or its next one where that has ended. Raises OtherVersion."""
    status = DBOS.get_workflow_status(this.workflow_id)
    if status is None:
        has_ended = this.state != "running"
    else:
        has_ended = status.status not in ACTIVE
        if not has_ended and status.app_version != settings.APPLICATION_VERSION:
            raise OtherVersion(
                f"Import {this.id} was begun by version {status.app_version} of this program, and "
                "only that goes on with it: keep a worker of it until the import is done. Or end "
                f"it with `python integration.py cancel {this.id}` and start this again; "
                "what is in stays in."
            )
    return transaction("begin_attempt", imports.next_attempt, this) if has_ended else this


def _start(workflows: Workflows, this: Import) -> "Sequence[Future[dict[str, Any]]]":
    """Starts the import's workflow, or joins it where it is under way, in whatever process.

    The result comes from this process, where the workflow runs here, or from the database.
    """
    started = _start_here(workflows, this)
    in_database: WorkflowHandle[dict[str, Any]] = DBOS.retrieve_workflow(this.workflow_id)
    waiter = ThreadPoolExecutor(2, thread_name_prefix="result")
    if started is None:
        return [waiter.submit(in_database.get_result, polling_interval_sec=RESULT_POLL_SECONDS)]
    return [
        waiter.submit(started.get_result),
        # Only there a workflow that is cancelled has ended at once.
        waiter.submit(in_database.get_result, polling_interval_sec=CANCELLED_POLL_SECONDS),
    ]


def _start_here(workflows: Workflows, this: Import) -> "WorkflowHandle[dict[str, Any]] | None":
    if DBOS.get_workflow_status(this.workflow_id) is not None:
        return None
    with telemetry.in_import(this.id, this.attempt), SetWorkflowID(this.workflow_id):
        return DBOS.start_workflow(workflows.import_users, this.id, this.attempt)


def _watch(
    results: "Sequence[Future[dict[str, Any]]]", this: Import, stop: Stop, view: ProgressView
) -> dict[str, Any]:
    client = database.database().client
    # In a thread: it waits for a server that is away, which a signal must not.
    looking = ThreadPoolExecutor(1, thread_name_prefix="progress")
    look: Future[Progress] | None = None
    with view:
        while True:
            ended, _ = wait(results, terminal.BAR_SECONDS, FIRST_COMPLETED)
            if ended:
                return _result(ended.pop(), this)
            if stop.wait(0):
                raise Interrupted(
                    f"Stopped; import {this.id} goes on when the same command is started again, "
                    "or by itself where a worker runs."
                )
            if look is not None and look.done():
                view.show(look.result())
                look = None
            elif look is None and view.is_due():
                look = looking.submit(transaction, "progress", reporting.progress, client, this)


def _result(ended: "Future[dict[str, Any]]", this: Import) -> dict[str, Any]:
    try:
        return ended.result()
    except dbos_error.DBOSAwaitedWorkflowCancelledError:
        raise Cancelled(
            f"Import {this.id} was cancelled; the same command goes on with it."
        ) from None


def _show_summary(summary: dict[str, Any]) -> None:
    """Tables for a terminal, else one JSON object: what is redirected is for programs."""
    console = terminal.stdout()
    if not console.is_terminal:
        print(json.dumps(summary))
        return
    rejected = transaction("reasons", reporting.reasons, summary["import_id"], TOP_REASONS)
    terminal.show_summary(console, summary, rejected)


@app.command()
def worker(concurrency: Annotated[int | None, _concurrency_option(1)] = None) -> None:
    """Take chunks of any import, until told to stop.

    On another machine with that one's POSTGRES_URL.

    Example: python integration.py worker --concurrency 4
    """
    with runtime.working(concurrency) as ours:
        stop = Stop()
        stop.listen()
        log.info("worker %s is ready", ours.executor_id)
        while not stop.wait(3600):
            pass


@app.command()
def cancel(import_id: Annotated[str, typer.Argument(metavar="IMPORT")]) -> None:
    """Stop an import for good; what is in stays in.

    Example: python integration.py cancel 5f2c
    """
    with read_session() as session:
        this = reporting.find_import(session, import_id)
    totals = runtime.cancel(database.database(), this)
    if totals is None:
        ended = transaction("get_import", imports.get, this.id)
        print(f"Import {this.id} is not running: it is {ended.state}.")
        raise typer.Exit(NOT_COMPLETE)
    print(
        f"Import {this.id} is cancelled; {totals.imported + totals.updated:,} rows that it wrote "
        "stay. The same import command goes on with it."
    )


@app.command()
def retry(
    import_id: ImportId = None,
    mended: Annotated[
        Path | None,
        typer.Option("--input", help="A .jsonl of `errors --jsonl`, its records mended."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try rejected users again, of one import or of all.

    For after a fix: of the schema, of the code, of the records in the table `errors` or in a file.

    Example: python integration.py retry --input rejected.jsonl
    """
    with read_session() as session:
        which = None if import_id is None else reporting.find_import(session, import_id).id
    if mended is not None:
        replaced = transaction("mend_records", retrying.mend, mended, which)
        print(f"{terminal.count(replaced, 'record')} replaced.", file=sys.stderr)
    counts = retrying.retry(which)
    if as_json:
        print(json.dumps(asdict(counts)))
    else:
        print(
            f"{counts.imported:,} imported, {counts.updated:,} updated, "
            f"{counts.skipped:,} skipped, {counts.rejected:,} still rejected"
        )
    given_up = transaction("count_given_up", retrying.given_up_chunks, which)
    if given_up:
        print(
            f"Failed as a whole: {terminal.count(given_up, 'chunk')}; "
            "the import command tries them again.",
            file=sys.stderr,
        )
    raise typer.Exit(REJECTS if counts.rejected else 0)


app.add_typer(inspection.app)
app.add_typer(administration.app)
app.add_typer(administration.postgres_app, name="postgres")


def main(workflows: Workflows) -> None:
    """Runs the command in `sys.argv`, an import where there is none, and ends the process."""
    completion_init()
    _log()
    telemetry.start_tracing()
    # As SIGINT does: what a command has to finish first, it looks after itself.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = _run(sys.argv[1:] or ["import"], workflows)
    _stop_embedded_server()
    runtime.end(status)


def _run(arguments: list[str], workflows: Workflows) -> int:
    try:
        app(
            arguments,
            obj=workflows,
            prog_name="integration.py",
            complete_var="_INTEGRATION_COMPLETE",
        )
    except SystemExit as ended:
        return int(ended.code or 0)
    except (Interrupted, KeyboardInterrupt) as error:
        return _say(str(error) or "Stopped.", runtime.INTERRUPTED)
    except EXPECTED as error:
        return _say(error, NOT_COMPLETE)
    except SQLAlchemyError as error:
        return _say(f"PostgreSQL: {database.reason(error)}", NOT_COMPLETE)
    except Exception as error:  # noqa: BLE001 (a traceback tells most people nothing)
        what = f"{type(error).__name__}: {error}"
        return _say(f"{what}\nLOG_LEVEL=DEBUG shows where it happened.", NOT_COMPLETE)
    return 0


def _say(error: object, status: int) -> int:
    log.debug("the reason in full", exc_info=True)
    print(error, file=sys.stderr)
    return status


def _log() -> None:
    if sys.stderr.isatty():
        telemetry.log_to(terminal.log_handler())
    else:
        telemetry.log_to(telemetry.json_handler())


def _stop_embedded_server() -> None:
    if settings.postgres_url() is None:
        sessions = database.close()
        # DBOS's threads, which end with the process, would take the server's end for an outage.
        logging.disable(logging.WARNING)
        with suppress(PostgresError):
            postgres.stop_if_unused(settings.postgres_folder(), sessions)
