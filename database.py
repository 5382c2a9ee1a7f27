"""The database: its address, the engine and datasource that the process shares, its migrations."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import sqlalchemy
import tenacity
from dbos import DBOSClient, DBOSPortableJSONSerializer, SQLAlchemyDatasource
from dbos import error as dbos_error
from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    FromClause,
    Table,
    Text,
    bindparam,
    cast,
    event,
    func,
    literal_column,
    make_url,
    text,
)
from sqlalchemy.engine import URL, ExceptionContext, ExecutionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

import models
import postgres
import settings

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
IDLE_TRANSACTION_SECONDS = 60
"""A frozen process's transaction ends after it, and frees the rows that a rescuer waits for."""

PATIENCE: dict[str, int] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's. 20 seconds after a server's machine lost its power, or its network, its connections are
given up, whether an answer was awaited or something had yet to arrive. Linux alone takes hours."""

RECONNECT_SECONDS = 1
OUTAGE_NOTICE_SECONDS = 5
QUERY_CANCELED = "57014"
"""The SQLSTATE of a statement timeout, which an outage is not."""

MIGRATION_LOCK = 0x696D706F7274
"""Key of the advisory lock that lets one process at a time migrate."""

MIGRATE_FIRST = "Run `python integration.py migrate`, then this again."

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
    connector: "Connector"


@cache
def database() -> Database:
    """The process's one database. Raises DatabaseError, NotMigrated or PostgresError."""
    executor_id = settings.executor_id()
    connector = Connector()
    engine = make_engine(database_url(), executor_id, connector)
    check_reachable(engine)
    connector.be_patient()
    serializer = DBOSPortableJSONSerializer()
    try:
        datasource = retry_after_outage(SQLAlchemyDatasource.create)(
            engine.url.render_as_string(hide_password=False),
            engine=engine,
            serializer=serializer,
            run_migrations=False,
        )
    except dbos_error.DBOSInitializationError:
        engine.dispose()
        raise NotMigrated(_not_migrated(engine.url)) from None
    client = DBOSClient(
        system_database_engine=engine,
        serializer=serializer,
        application_name=settings.APPLICATION_NAME,
        lazy=True,
    )
    return Database(executor_id, engine, datasource, client, connector)


def close() -> str | None:
    """Closes the process's connections, where it had any, and lets it make no others.

    For a process that ends: its threads, still at work, would keep the embedded server in use.
    Returns the name of those that a thread still has.
    """
    if not database.cache_info().currsize:
        return None
    database().connector.end()
    database().engine.dispose()
    return database().executor_id


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


class Connector:
    """Makes a process's connections: to a server that was there once, with patience.

    An outage is waited for here, under whatever asks for a connection, so that all goes on
    within RECONNECT_SECONDS of its end; DBOS's own waits grow to over a minute.
    """

    def __init__(self) -> None:
        self._is_patient = False
        self._ending = threading.Event()

    def be_patient(self) -> None:
        self._is_patient = True

    def end(self) -> None:
        """Lets what asks for another connection wait for the process's end."""
        self._ending.set()

    def __call__(
        self, _dialect: Any, _record: Any, args: list[Any], kwargs: dict[str, Any]
    ) -> "psycopg.Connection[Any]":
        while True:
            if self._ending.is_set():
                threading.Event().wait()
            try:
                _revive_embedded_server()
                return psycopg.connect(*args, **kwargs)
            except (postgres.PostgresError, psycopg.OperationalError) as error:
                if not self._is_patient:
                    raise
                outages.tell(error)
            self._ending.wait(RECONNECT_SECONDS)

    def tell_of_outage(self, context: ExceptionContext) -> None:
        """Says what DBOS waits for: a lost connection, a server without room."""
        code = getattr(context.original_exception, "sqlstate", None) or ""
        if context.is_disconnect or _is_of_outage(code):
            outages.tell(context.original_exception)


def make_engine(url: URL, application_name: str, connector: Connector | None = None) -> Engine:
    """An engine that survives a server's restart and says when it waits for one."""
    engine = sqlalchemy.create_engine(
        url,
        pool_size=10,
        # As many as there are threads; a thread that waited for a connection while it holds one
        # could wait for ever.
        max_overflow=-1,
        pool_pre_ping=True,
        # The one used last knows its statements already, on both sides.
        pool_use_lifo=True,
        # They hold records, and would be written into logs and checkpoints.
        hide_parameters=True,
        connect_args={
            "application_name": application_name,
            **_patience(url),
        },
    )
    if connector is not None:
        event.listen(engine, "do_connect", connector)
        event.listen(engine, "handle_error", connector.tell_of_outage)
    event.listen(engine, "connect", _limit_idle_transactions)
    event.listen(engine, "before_cursor_execute", _ask_in_binary)
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


class OutageLog:
    """Says that the server is waited for, and why, but not all the time."""

    def __init__(self) -> None:
        self._told_at = -math.inf

    def tell(self, error: BaseException) -> None:
        if time.monotonic() - self._told_at < OUTAGE_NOTICE_SECONDS:
            return
        self._told_at = time.monotonic()
        log.warning(
            "PostgreSQL: %s; trying again every %s s",
            reason(error),
            RECONNECT_SECONDS,
            extra={"waiting": True},
        )


outages = OutageLog()


def is_outage(error: BaseException) -> bool:
    """Whether the connection is lost, or the server away or without room: none of it lasts."""
    if getattr(error, "connection_invalidated", False):
        return True
    original = getattr(error, "orig", None) or error
    # One without a code is the driver's own: no connection, or none any more.
    return isinstance(original, psycopg.OperationalError) and (
        original.sqlstate is None or _is_of_outage(original.sqlstate)
    )


def _is_of_outage(code: str) -> bool:
    return code[:2] in ("08", "53", "57") and code != QUERY_CANCELED


def _is_outage_that_is_told(error: BaseException) -> bool:
    if is_outage(error):
        outages.tell(error)
        return True
    return False


retry_after_outage = tenacity.retry(
    retry=tenacity.retry_if_exception(_is_outage_that_is_told),
    wait=tenacity.wait_fixed(RECONNECT_SECONDS),
)
"""Runs again what an outage has undone, until it is through: for what a process does to begin, each
of it harmless when done twice. Afterwards DBOS does the same for its steps."""


@retry_after_outage
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


@retry_after_outage
def require_table(engine: Engine, table: Table, alembic_config: str) -> None:
    """Raises NotMigrated with the command that makes the table."""
    if not sqlalchemy.inspect(engine).has_table(table.name, table.schema):
        raise NotMigrated(
            f"The table {table.fullname} is not there: run "
            f"`alembic -c {alembic_config} upgrade head`, then this again."
        )


def migrate() -> None:
    """Makes or updates everything: DBOS's system tables, the datasource's, and ours."""
    url = database_url()
    check_reachable(make_engine(url, "migration"))
    _migrate(url)


@retry_after_outage
def _migrate(url: URL) -> None:
    _revive_embedded_server()
    address = (
        url.set(drivername="postgresql")
        .update_query_dict({name: str(value) for name, value in _patience(url).items()})
        .render_as_string(hide_password=False)
    )
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
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def recordset(table: str, columns: Sequence[str]) -> FromClause:
    """The rows of the parameter `batch`, typed as a table's."""
    batch = cast(bindparam("batch", type_=Text), JSON)
    return func.json_populate_recordset(literal_column(f"NULL::{table}"), batch).table_valued(
        *columns, name="batch_rows"
    )


def _patience(url: URL) -> dict[str, int]:
    """What the address does not say itself."""
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def _not_migrated(url: URL) -> str:
    shown = url.set(drivername="postgresql").render_as_string(hide_password=True)
    return f"The database {shown} is not migrated. {MIGRATE_FIRST}"


def _ask_in_binary(
    _connection: Connection,
    cursor: "psycopg.Cursor[Any]",
    _statement: str,
    _parameters: Any,
    context: ExecutionContext | None,
    _executemany: bool,
) -> None:
    if context is not None and context.execution_options.get("in_binary"):
        cursor.format = psycopg.pq.Format.BINARY


def _limit_idle_transactions(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_SECONDS}s'")
    # The pool rolls a returned connection back, and with it an uncommitted SET.
    connection.commit()


def _revive_embedded_server() -> None:
    """Starts it again where it has died: nobody else would."""
    if settings.postgres_url() is None:
        folder = settings.postgres_folder()
        if postgres.running_url(folder) is None:
            postgres.ensure_running(folder)


def lock_for_migration(connection: Connection) -> None:
    """Makes other migrations wait until this connection's transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
