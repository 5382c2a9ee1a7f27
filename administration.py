"""The commands that look after the database: its tables, and the embedded server."""

import shlex

import typer

import database
import postgres
import settings

app = typer.Typer()
postgres_app = typer.Typer(
    help="The embedded PostgreSQL, which serves where POSTGRES_URL is unset.",
    no_args_is_help=True,
)


@app.command()
def migrate() -> None:
    """Make or update all tables: DBOS's, the checkpoints', ours. `dbos migrate` runs this too."""
    database.migrate()


@postgres_app.command("start")
def postgres_start() -> None:
    """Start the embedded server; it runs until `postgres stop`."""
    url = postgres.ensure_running(settings.postgres_folder())
    postgres.keep(settings.postgres_folder())
    print(url)


@postgres_app.command("stop")
def postgres_stop() -> None:
    """Stop the embedded server."""
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
