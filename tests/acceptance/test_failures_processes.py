"""Processes that die, freeze, lose the network or are told to stop, with an import under way."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import psycopg
import pytest

from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    UsersFile,
    assert_exactly_once,
    has_ended,
    is_blocked,
    loaded_chunks,
    work_in_hand,
    write_users,
)
from tests.support.programs import PROJECT, Importer, Process
from tests.support.proxy import PostgresProxy, Proxy
from tests.support.shell import Shell
from tests.support.waiting import until

TAKEOVER_SECONDS = 15
STOP_SECONDS = 10
INTERRUPTED = 130
CHUNKS = 60

Victim = Literal["importer", "worker", "both"]


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return write_users(tmp_path, 1_500, broken_every=500)


@contextmanager
def locked_table(url: str) -> Iterator[None]:
    """Holds every chunk in the middle of its transaction, before its first row."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE random_users IN EXCLUSIVE MODE")
        yield


def start_import(importer: Importer, file: UsersFile) -> Process:
    return importer.spawn("import", "--input", file.path, *SMALL_CHUNKS, "--json")


def start_worker(importer: Importer, url: str | None = None) -> Process:
    worker = importer.spawn("worker", env={"POSTGRES_URL": url} if url else None)
    worker.wait_for("is ready")
    return worker


def kill_at_random(
    importer: Importer, sql: Sql, file: UsersFile, victim: Victim, random: Random
) -> None:
    worker = start_worker(importer)
    starter = start_import(importer, file)
    chunks = random.randrange(CHUNKS)
    until(lambda: loaded_chunks(sql) >= chunks, f"{chunks} chunks are loaded")
    dead = {"importer": [starter], "worker": [worker], "both": [starter, worker]}[victim]
    for process in dead:
        process.kill()
    if victim == "both":
        assert start_import(importer, file).wait().status == 3
    until(lambda: not any(work_in_hand(sql, one) for one in dead), "takeover", TAKEOVER_SECONDS)
    until(lambda: has_ended(sql), "the import is complete")
    assert_exactly_once(sql, file)


@pytest.mark.parametrize("victim", ["importer", "worker", "both"])
def test_sigkill_loses_and_doubles_nothing(
    importer: Importer, sql: Sql, file: UsersFile, victim: Victim
) -> None:
    kill_at_random(importer, sql, file, victim, Random(victim))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("victim", ["importer", "worker", "both"])
def test_sigkill_at_more_moments(
    importer: Importer, sql: Sql, file: UsersFile, victim: Victim, seed: int
) -> None:
    kill_at_random(importer, sql, file, victim, Random(seed))


@dataclass(frozen=True)
class Silence:
    """How a worker falls silent, and how it comes back."""

    begin: Callable[[Process, Proxy], object]
    end: Callable[[Process, Proxy], object]


SILENCES = {
    "stopped": Silence(
        lambda worker, _: worker.send(signal.SIGSTOP), lambda worker, _: worker.send(signal.SIGCONT)
    ),
    "cut-off": Silence(lambda _, proxy: proxy.black_hole(), lambda _, proxy: proxy.forward()),
}


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES.keys())
def test_silent_worker_is_taken_over_and_rejoins(
    importer: Importer, sql: Sql, file: UsersFile, silence: Silence
) -> None:
    with PostgresProxy(sql.url) as proxy:
        worker = start_worker(importer, proxy.url)
        with locked_table(sql.url):
            starter = start_import(importer, file)
            until(lambda: is_blocked(sql, worker), "the worker is in a transaction")
            silence.begin(worker, proxy)
        in_hand = work_in_hand(sql, worker)
        until(lambda: not work_in_hand(sql, worker), "takeover", TAKEOVER_SECONDS)
        assert in_hand
        assert starter.wait().status == 3
        assert_exactly_once(sql, file)

        silence.end(worker, proxy)
        until(lambda: holds_its_lock(sql, worker), "the worker is back")
        assert_exactly_once(sql, file)
        worker.send(signal.SIGTERM)
        assert worker.wait(STOP_SECONDS).status == 0


def holds_its_lock(sql: Sql, worker: Process) -> bool:
    query = (
        "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND application_name LIKE %s"
    )
    return bool(sql(query, f"%-{worker.pid}-%"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_an_import_that_goes_on_later(
    importer: Importer, sql: Sql, file: UsersFile, number: signal.Signals
) -> None:
    starter = start_import(importer, file)
    until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
    starter.send(number)
    result = starter.wait(STOP_SECONDS)

    assert result.status == INTERRUPTED
    assert "goes on when the same command is started again" in result.stderr
    assert not chunks_in_hand(sql, starter)
    assert loaded_chunks(sql) < CHUNKS
    assert start_import(importer, file).wait().status == 3
    assert_exactly_once(sql, file)


@pytest.mark.parametrize("role", ["importer", "worker"])
def test_signal_rolls_back_a_chunk_that_does_not_end(
    importer: Importer, sql: Sql, file: UsersFile, role: str
) -> None:
    with locked_table(sql.url):
        starter = start_import(importer, file)
        worker = start_worker(importer)
        process = starter if role == "importer" else worker
        until(lambda: is_blocked(sql, process), f"the {role} is in a transaction")
        process.send(signal.SIGTERM)
        result = process.wait(STOP_SECONDS)
    assert result.status == (INTERRUPTED if role == "importer" else 0)
    until(lambda: has_ended(sql), "the other one has done the rest")
    assert_exactly_once(sql, file)


def test_signal_ends_a_process_whose_server_is_away(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    with PostgresProxy(sql.url) as proxy:
        env = {"POSTGRES_URL": proxy.url}
        starter = importer.spawn("import", "--input", file.path, *SMALL_CHUNKS, env=env)
        until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
        proxy.refuse()
        starter.wait_for('"waiting": true')
        starter.send(signal.SIGTERM)
        assert starter.wait(STOP_SECONDS).status == INTERRUPTED


def test_signal_ends_a_process_at_a_terminal_whose_server_is_away(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    """Its bar asks the server how far the import is, many times a second."""
    with (
        PostgresProxy(sql.url) as proxy,
        Shell(PROJECT, importer.programs.environment | {"POSTGRES_URL": proxy.url}) as shell,
    ):
        command = shlex.join(["python", "integration.py", "import", "--input", str(file.path)])
        shell.run(f"TERM=xterm {command} {shlex.join(SMALL_CHUNKS)} &", timeout=10)
        until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
        proxy.refuse()
        until(lambda: "refused" in shell.output, "it has tried again for a while")
        shell.run("kill -TERM $!", timeout=10)
        assert shell.run("wait $!", timeout=STOP_SECONDS) == INTERRUPTED


def chunks_in_hand(sql: Sql, process: Process) -> list[str]:
    """Workflows `import.attempt.chunk`: a parent's name has one dot less."""
    return [name for name in work_in_hand(sql, process) if name.count(".") == 2]
