"""The database: its address, the engine and datasource that the process shares, its migrations."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import sqlalchemy
from dbos import DBOSClient, DBOSPortableJSONSerializer, SQLAlchemyDatasource
from dbos import error as dbos_error
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

import models
import postgres
import settings

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
IDLE_TRANSACTION_SECONDS = 60
"""A frozen process's transaction ends after it, and frees the rows that a rescuer waits for."""

OUTAGE_NOTICE_SECONDS = 5
MIGRATION_LOCK = 0x696D706F7274
"""Key of the advisory lock that lets one process at a time migrate."""

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseError(Exception):
    """The database can't be used: the message says which, why, and what to do."""


class NotMigrated(DatabaseError):
    """The database lacks tables that this version needs."""


@dataclass(frozen=True)
class Database:
    """What a process uses of the database, under the name by which DBOS knows the process."""

    executor_id: str
    engine: Engine
    datasource: SQLAlchemyDatasource
    client: DBOSClient
    ending: threading.Event
    """Once set, what asks for a new connection waits for the process's end."""


@cache
def database() -> Database:
    """The process's one database. Raises DatabaseError, NotMigrated or PostgresError."""
    executor_id = settings.executor_id()
    ending = threading.Event()
    engine = make_engine(database_url(), executor_id, partial(_prepare_to_connect, ending))
    check_reachable(engine)
    serializer = DBOSPortableJSONSerializer()
    try:
        datasource = SQLAlchemyDatasource.create(
            engine.url.render_as_string(hide_password=False),
            engine=engine,
            serializer=serializer,
            run_migrations=False,
        )
    except dbos_error.DBOSInitializationError:
        raise NotMigrated(_not_migrated(engine.url)) from None
    client = DBOSClient(
        system_database_engine=engine,
        serializer=serializer,
        application_name=settings.APPLICATION_NAME,
        lazy=True,
    )
    return Database(executor_id, engine, datasource, client, ending)


def close() -> None:
    """Closes the process's connections, where it had any, and lets it make no others.

    For a process that ends: its threads, still at work, would keep the embedded server in use.
    """
    if database.cache_info().currsize:
        database().ending.set()
        database().engine.dispose()


def transaction(
    name: str, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Runs `function` in one transaction, as a step of the workflow that it is called in.

    The step's checkpoint commits with what the function wrote, or neither does: after a crash the
    workflow either finds both or runs it anew. Lost connections, deadlocks and an overloaded
    server are waited for and tried again; any other error is recorded as the step's and raised.
    Outside a workflow there is no checkpoint.
    """
    datasource = database().datasource
    return datasource.run_tx_step(
        # Rows are claimed by their keys: SERIALIZABLE would only add retries.
        {"name": name, "isolation_level": "READ COMMITTED"},
        lambda: function(datasource.sql_session(), *args, **kwargs),
    )


def database_url() -> URL:
    """`POSTGRES_URL`, else the embedded server's, which is started where it is not running."""
    configured = settings.postgres_url()
    address = configured or postgres.ensure_running(settings.postgres_folder())
    try:
        url = make_url(address)
    except ArgumentError:
        raise DatabaseError(
            "POSTGRES_URL is no address: expected postgresql://user:password@host:port/database"
        ) from None
    if not url.drivername.startswith("postgres"):
        raise DatabaseError(f"POSTGRES_URL is of {url.drivername}: this needs PostgreSQL")
    return url.set(drivername="postgresql+psycopg")


def make_engine(
    url: URL, application_name: str, prepare_to_connect: Callable[[], None] = lambda: None
) -> Engine:
    """An engine that survives a server's restart and says when it waits for one."""
    engine = sqlalchemy.create_engine(
        url,
        pool_size=10,
        # As many as there are threads; a thread that waited for a connection while it holds one
        # could wait for ever.
        max_overflow=-1,
        pool_pre_ping=True,
        # They hold records, and would be written into logs and checkpoints.
        hide_parameters=True,
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_SECONDS,
        },
    )
    event.listen(engine, "do_connect", partial(_connect, prepare_to_connect))
    event.listen(engine, "connect", _limit_idle_transactions)
    event.listen(engine, "handle_error", _outage_notice())
    return engine


def check_reachable(engine: Engine) -> None:
    """Raises DatabaseError with the address, without its password, and the server's reason."""
    try:
        with engine.connect():
            pass
    except DBAPIError as error:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
        raise DatabaseError(
            f"PostgreSQL at {url} can't be used: {reason(error)}\n"
            "Start it or mend POSTGRES_URL; unset POSTGRES_URL to use the embedded server."
        ) from error


def is_current(engine: Engine) -> bool:
    """Whether the tables are at this code's revision."""
    with engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return False
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return bool(revision == models.REVISION)


def require_current(engine: Engine) -> None:
    """Raises NotMigrated."""
    if not is_current(engine):
        raise NotMigrated(_not_migrated(engine.url))


def migrate() -> None:
    """Makes or updates everything: DBOS's system tables, the datasource's, and ours."""
    url = database_url()
    check_reachable(make_engine(url, "migration"))
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    # Imported here: it costs a third of a second, and most starts find nothing to migrate.
    import alembic.command
    import alembic.config
    from dbos import DBOS

    DBOS.migrate(address)
    SQLAlchemyDatasource.migrate(address)
    configuration = alembic.config.Config(
        str(settings.PROJECT_FOLDER / "migrations" / "alembic.ini")
    )
    alembic.command.upgrade(configuration, "head")


def reason(error: BaseException) -> str:
    """What the server or the driver says, in one line."""
    original = getattr(error, "orig", None) or error
    diagnostic = getattr(getattr(original, "diag", None), "message_primary", None)
    return " ".join(str(diagnostic or original).split())


def sqlstate(error: BaseException) -> str | None:
    """The server's code for an error, where it came from the server."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _not_migrated(url: URL) -> str:
    shown = url.set(drivername="postgresql").render_as_string(hide_password=True)
    return f"The database {shown} is not migrated: run `dbos migrate`, then this again."


def _connect(
    prepare: Callable[[], None],
    _dialect: Any,
    _record: Any,
    args: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    try:
        prepare()
        return psycopg.connect(*args, **kwargs)
    except (postgres.PostgresError, psycopg.OperationalError) as error:
        # DBOS waits only for these words; over a Unix socket psycopg has others.
        if "connection failed" in str(error):
            raise
        raise psycopg.OperationalError(f"connection failed: {error}") from error


def _prepare_to_connect(ending: threading.Event) -> None:
    """Starts the embedded server again, where it has died: nobody else would."""
    if ending.is_set():
        threading.Event().wait()
    if settings.postgres_url() is None:
        folder = settings.postgres_folder()
        if postgres.running_url(folder) is None:
            postgres.ensure_running(folder)


def _limit_idle_transactions(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_SECONDS}s'")
    # The pool rolls a returned connection back, and with it an uncommitted SET.
    connection.commit()


def _outage_notice() -> Callable[[ExceptionContext], None]:
    told_at = -float(OUTAGE_NOTICE_SECONDS)

    def tell(context: ExceptionContext) -> None:
        nonlocal told_at
        code = getattr(context.original_exception, "sqlstate", None) or ""
        failed_connect = context.connection is None
        if not (context.is_disconnect or failed_connect or code[:2] in ("53", "57", "08")):
            return
        if code == "57014" or time.monotonic() - told_at < OUTAGE_NOTICE_SECONDS:
            return
        told_at = time.monotonic()
        log.warning(
            "PostgreSQL: %s; trying again every 2 s at most",
            reason(context.original_exception),
            extra={"waiting": True},
        )

    return tell


def lock_for_migration(connection: Connection) -> None:
    """Makes other migrations wait until this connection's transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
