"""One trial: a contender on a fresh database, its helpers ready, its rows counted afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks import data
from benchmarks.contender import Contender
from benchmarks.processes import Failed, Program, Programs, Usage
from benchmarks.results import Trial
from tests.support.databases import Server

NO_ENVIRONMENT: Mapping[str, str] = {}


@dataclass(frozen=True)
class Laboratory:
    """Where trials are run: one server, one folder of data."""

    server: Server
    programs: Programs
    folder: Path

    def users(self, count: int, bad: float = 0) -> Path:
        """A file of users, made where it is missing."""
        path = self.folder / f"{count}-{bad:g}.jsonl"
        if not path.exists():
            data.write(path, count, bad)
        return path

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new one, with nothing of the last trial's left for the server to write."""
        with self.server.database() as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(data.REFUSE)
                connection.execute("CHECKPOINT")
            yield url

    def trial(self, contender: Contender, users: int, number: int) -> Trial:
        """Raises Failed when the program fails, or when other rows are in than should be."""
        with self.database() as url:
            trial = self.run(contender, users, number, url)
            check_rows(url, contender, users)
            return trial

    def run(
        self,
        contender: Contender,
        users: int,
        number: int,
        url: str,
        environment: Mapping[str, str] = NO_ENVIRONMENT,
    ) -> Trial:
        """A trial on a database that is there. Raises Failed."""
        environment = {
            "POSTGRES_URL": url,
            "IMPORT_CACHE": str(self.folder / "cache.json"),
            **environment,
        }
        command = contender.command_for(self.users(users, contender.bad), users)
        with self._helpers(contender, environment) as helpers:
            outcome = self.programs.run(command, environment, contender.statuses)
            helped = [helper.stop().usage for helper in helpers]
        return _trial(contender, users, number, outcome.usage, outcome.report["seconds"], helped)

    @contextmanager
    def _helpers(
        self, contender: Contender, environment: Mapping[str, str]
    ) -> Iterator[list[Program]]:
        helpers = [
            self.programs.start(contender.worker_command, environment)
            for _ in range(contender.workers)
        ]
        try:
            for helper in helpers:
                helper.wait_for("is ready")
            yield helpers
        finally:
            for helper in helpers:
                helper.kill()


def check_rows(url: str, contender: Contender, users: int) -> None:
    """Raises Failed unless every user is in that can be, once."""
    wanted = users - data.bad_of(users, contender.bad)
    with psycopg.connect(url) as connection:
        query = sql.SQL("SELECT count(*), count(DISTINCT id) FROM {}").format(
            sql.Identifier(*contender.table.split("."))
        )
        [counts] = connection.execute(query)
    if counts != (wanted, wanted):
        raise Failed(f"{contender.name}: {counts[0]} rows, {counts[1]} users; wanted {wanted}")


def _trial(
    contender: Contender,
    users: int,
    number: int,
    usage: Usage,
    work_seconds: float,
    helped: Sequence[Usage],
) -> Trial:
    return Trial(
        contender=contender.name,
        round=number,
        users=users,
        work_seconds=work_seconds,
        whole_seconds=usage.seconds,
        cpu_seconds=usage.cpu_seconds + sum(helper.cpu_seconds for helper in helped),
        peak_mb=usage.peak_mb,
        worker_peak_mb=max((helper.peak_mb for helper in helped), default=None),
    )
