"""The commands that look after the database: its tables, what they keep, the embedded server."""

import json
import shlex
from dataclasses import asdict
from typing import Annotated

import typer

import database
import postgres
import retention
import settings
from options import AsJson

app = typer.Typer()
postgres_app = typer.Typer(
    help="The embedded PostgreSQL, for where POSTGRES_URL is unset.",
    no_args_is_help=True,
)


@app.command()
def migrate() -> None:
    """Make or update all tables: DBOS's, the checkpoints', ours. `dbos migrate` runs this too.

    Example: python integration.py migrate
    """
    database.migrate()


@app.command()
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="How long ago it ended: 30d, 12h, 90m.")
    ] = "30d",
    as_json: AsJson = False,
) -> None:
    """Delete what imports that ended long ago have left behind.

    That is: DBOS's rows of their workflows, and the staged pages of imports that were never
    completed. These don't go on any more: the same import command begins a new one. Users, errors
    and totals stay.

    Example: python integration.py prune --older-than 7d
    """
    try:
        age = retention.age(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    ours = database.database()
    database.require_current(ours.engine)
    pruned = retention.prune(ours, age)
    if as_json:
        print(json.dumps(asdict(pruned)))
    else:
        print(
            f"{pruned.abandoned:,} imports abandoned with {pruned.pages:,} staged pages, "
            f"{pruned.workflows:,} workflows deleted"
        )


@postgres_app.command("start")
def postgres_start() -> None:
    """Start the embedded server; it runs until `postgres stop`.

    Example: python integration.py postgres start
    """
    url = postgres.ensure_running(settings.postgres_folder())
    postgres.keep(settings.postgres_folder())
    print(url)


@postgres_app.command("stop")
def postgres_stop() -> None:
    """Stop the embedded server.

    Example: python integration.py postgres stop
    """
    stopped = postgres.stop(settings.postgres_folder())
    print("stopped" if stopped else "it was not running")


@postgres_app.command("env")
def postgres_env() -> None:
    """Start the embedded server and print the variables that lead other programs to it.

    Example: eval "$(python integration.py postgres env)"
    """
    url = settings.postgres_url()
    if url is None:
        url = postgres.ensure_running(settings.postgres_folder())
        postgres.keep(settings.postgres_folder())
    for name, value in postgres.environment(url).items():
        print(f"export {name}={shlex.quote(value)}")
