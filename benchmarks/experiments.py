"""What is measured: each experiment runs trials, in turn and in rounds, and returns them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg

from benchmarks import server_costs
from benchmarks.contender import (
    CONTENDERS,
    DEFAULT,
    DLT,
    GROWING,
    TUNED_ONE,
    Contender,
)
from benchmarks.processes import Failed
from benchmarks.results import Storage, TableCost, Trial
from benchmarks.trials import Laboratory, check_rows

SHORT_COMMAND_USERS = 5_000
FIRST_USERS = 20
"""Imported beforehand, so that the measured command finds its tables."""

GROWTH = 20
"""By how much more users the second size of `growth` is."""

TRACED = replace(DEFAULT, name=f"{DEFAULT.name}, traced")


def throughput(laboratory: Laboratory, users: int, rounds: int) -> Iterator[Trial]:
    """Every contender in turn, as many times as there are rounds."""
    for number in range(rounds):
        for contender in CONTENDERS:
            yield laboratory.trial(contender, users, number)


def short_command(laboratory: Laboratory, rounds: int) -> Iterator[Trial]:
    """5,000 users by commands whose tables are there: most of it is start-up."""
    for number in range(rounds):
        for contender in (DEFAULT, DLT):
            with laboratory.database() as url:
                laboratory.run(contender, FIRST_USERS, number, url)
                yield laboratory.run(contender, SHORT_COMMAND_USERS, number, url)


def growth(laboratory: Laboratory, users: int) -> Iterator[Trial]:
    """Some users, then twenty times as many, by file and by API: once each, the second is long."""
    with _standin(laboratory) as url:
        for contender in GROWING:
            for count in (users, users * GROWTH):
                with laboratory.database() as database:
                    yield laboratory.run(contender, count, 0, database, {"RANDOMUSER_URL": url})
                    check_rows(database, contender, count)


def tracing(laboratory: Laboratory, users: int, rounds: int) -> Iterator[Trial]:
    """The same import with and without a collector that takes its spans."""
    sink = laboratory.programs.start(["-m", "benchmarks.otlp_sink"], {})
    try:
        collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.first_line()}
        for number in range(rounds):
            yield laboratory.trial(DEFAULT, users, number)
            with laboratory.database() as url:
                yield laboratory.run(TRACED, users, number, url, collector)
        if not sink.stop().report["requests"]:
            raise Failed("no span came to the collector")
    finally:
        sink.kill()


def storage(laboratory: Laboratory, users: int) -> Iterator[Storage]:
    """What PostgreSQL wrote for an import, and holds after it."""
    for contender in (DEFAULT, TUNED_ONE):
        with (
            laboratory.database() as url,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            start = server_costs.log_position(connection)
            began = server_costs.cpu_seconds(connection)
            processes = server_costs.processes(connection)
            trial = laboratory.run(contender, users, 0, url)
            server_costs.wait_for_processes(connection, processes)
            server_seconds = server_costs.cpu_seconds(connection) - began
            log = server_costs.log_by_table(connection, start)
            yield Storage(
                contender=contender.name,
                users=users,
                log_bytes=sum(log.values()),
                server_cpu_seconds=server_seconds,
                client_cpu_seconds=trial.cpu_seconds,
                tables=_tables(connection, log),
            )


def warm_up(laboratory: Laboratory, contenders: Sequence[Contender], users: int) -> None:
    """Everything once: what is read from disk the first time is in memory afterwards."""
    for contender in contenders:
        laboratory.trial(contender, users, 0)


@contextmanager
def _standin(laboratory: Laboratory) -> Iterator[str]:
    command = ["-m", "tests.standin", "--rate-limit", "0", "--cached-pages", "0"]
    standin = laboratory.programs.start(command, {})
    try:
        yield standin.first_line()
    finally:
        standin.kill()


def _tables(connection: server_costs.Connection, log: Mapping[str, int]) -> list[TableCost]:
    rows = connection.execute(
        """
        SELECT schemaname || '.' || relname, pg_total_relation_size(relid),
               n_tup_ins, n_tup_upd, n_tup_del
        FROM pg_stat_user_tables WHERE n_tup_ins > 0 ORDER BY 2 DESC
        """
    )
    return [
        TableCost(table, size, log.get(table, 0), inserted, updated, deleted)
        for table, size, inserted, updated, deleted in rows
    ]
