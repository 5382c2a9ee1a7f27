"""How many workers one PostgreSQL can feed: real ones, whose chunks are empty.

python -m benchmarks.many_workers: prints a Markdown table. A chunk that is loaded already is
dequeued, looked up, checkpointed and ended as any other; only its rows cost nothing. So what is
left is the price of a chunk's bookkeeping, and that of a worker that waits.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import psycopg
import sqlalchemy
import typer
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy.orm import Session

import settings
from benchmarks import server_costs
from benchmarks.contender import DEFAULT
from benchmarks.processes import Program, Programs
from benchmarks.trials import Laboratory
from pages import CHUNK_WORKFLOW
from tests.support.databases import running_server

USERS = 20
"""Of the import whose chunk is asked for again and again."""

LOOK_SECONDS = 0.05
QUIET_SECONDS = 2.0
"""For workers to come to rest, once they are ready."""


@dataclass(frozen=True)
class Fed:
    """What a number of workers cost."""

    workers: int
    chunks_per_second: float
    server_ms: float
    """Of a processor, for each chunk."""
    worker_ms: float
    """The same, of the workers' own."""
    idle_server_ms: float
    """Of a processor, each second, for each worker that waits."""


@dataclass(frozen=True)
class Site:
    """A database with an import that is done, and workers that wait for more."""

    url: str
    connection: server_costs.Connection
    workers: Sequence[Program]

    def server_seconds(self) -> float:
        return server_costs.cpu_seconds(self.connection)

    def worker_seconds(self) -> float:
        times = [psutil.Process(worker.popen.pid).cpu_times() for worker in self.workers]
        return sum(time.user + time.system for time in times)


def main(
    chunks: Annotated[int, typer.Option(help="Empty chunks for each number of workers.")] = 2_000,
    idle: Annotated[float, typer.Option(help="Seconds without work.")] = 5,
    workers: Annotated[
        list[int] | None, typer.Option(help="How many at a time; one takes some 12 connections.")
    ] = None,
) -> None:
    """Feed empty chunks to more and more workers."""
    print(
        "| workers | chunks/s | server ms per chunk | worker ms per chunk "
        "| server ms a second per idle worker |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, running_server() as server:
        laboratory = Laboratory(server, Programs(Path(scratch)), Path(scratch))
        for count in workers or (1, 2, 4):
            with site(laboratory, count) as here:
                fed = feed(here, chunks, idle)
            print(
                f"| {fed.workers} | {fed.chunks_per_second:,.0f} | {fed.server_ms:.2f} "
                f"| {fed.worker_ms:.2f} | {fed.idle_server_ms:.2f} |",
                flush=True,
            )


@contextmanager
def site(laboratory: Laboratory, workers: int) -> Iterator[Site]:
    """A fresh one; its workers end with it."""
    with (
        laboratory.database() as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        laboratory.run(DEFAULT, USERS, 0, url)
        environment = {"POSTGRES_URL": url}
        started = [
            laboratory.programs.start(DEFAULT.worker_command, environment) for _ in range(workers)
        ]
        try:
            for worker in started:
                worker.wait_for("is ready")
            time.sleep(QUIET_SECONDS)
            yield Site(url, connection, started)
        finally:
            for worker in started:
                worker.kill()


def feed(site: Site, chunks: int, idle: float) -> Fed:
    """Lets the workers wait for a while, then work through a queue of empty chunks."""
    server = site.server_seconds()
    time.sleep(idle)
    idle_server = site.server_seconds() - server

    _enqueue(site, chunks)
    server, worker, began = site.server_seconds(), site.worker_seconds(), time.monotonic()
    done = _done(site)
    while (now := _done(site)) < chunks:
        time.sleep(LOOK_SECONDS)
    seconds, done = time.monotonic() - began, now - done
    return Fed(
        workers=len(site.workers),
        chunks_per_second=done / seconds,
        server_ms=(site.server_seconds() - server) / done * 1e3,
        worker_ms=(site.worker_seconds() - worker) / done * 1e3,
        idle_server_ms=idle_server / idle / len(site.workers) * 1e3,
    )


def _enqueue(site: Site, chunks: int) -> None:
    """All in one transaction, as a page does it, so that they are there at once."""
    [(import_id,)] = site.connection.execute("SELECT id FROM imports")
    url = sqlalchemy.make_url(site.url).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url)
    client = DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=settings.APPLICATION_NAME,
        lazy=True,
    )
    with Session(engine) as session, session.begin():
        for number in range(chunks):
            options = EnqueueOptions(
                workflow_name=CHUNK_WORKFLOW,
                queue_name=settings.CHUNK_QUEUE,
                workflow_id=f"empty.{number}",
                app_version=settings.APPLICATION_VERSION,
            )
            client.enqueue_in_transaction(session, options, import_id, 0)
    engine.dispose()


def _done(site: Site) -> int:
    [(count,)] = site.connection.execute(
        "SELECT count(*) FROM dbos.workflow_status "
        "WHERE workflow_uuid LIKE 'empty.%' AND status = 'SUCCESS'"
    )
    return int(count)


if __name__ == "__main__":
    typer.run(main)
