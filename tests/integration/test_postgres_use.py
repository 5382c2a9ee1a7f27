"""Who keeps the embedded server: several processes that share, start and leave it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import postgres
from postgres.locks import Patience, locked
from tests.support.embedded import START_AND_STAY, ask, postmasters, url_of, user_process
from tests.support.programs import PROJECT


def test_four_processes_at_once_share_one_server(new_folder: Path) -> None:
    with (
        user_process(new_folder) as first,
        user_process(new_folder) as second,
        user_process(new_folder) as third,
        user_process(new_folder) as fourth,
    ):
        urls = {url_of(process) for process in (first, second, third, fourth)}

    assert urls == {f"postgresql://postgres@/integration?host={new_folder}"}
    assert len(postmasters(new_folder)) == 1


def test_waits_for_another_process_only_so_long(folder: Path) -> None:
    postgres.ensure_running(folder)
    said: list[str] = []
    with (
        locked(folder, Patience(1, said.append)),
        pytest.raises(postgres.PostgresError, match="Another process"),
    ):
        postgres.ensure_running(folder, timeout=3.5, on_wait=said.append)
    assert said


def test_unused_server_is_stopped(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url):
        pass  # a session that was closed a moment ago

    assert postgres.stop_if_unused(folder)
    assert postmasters(folder) == []


def test_open_session_keeps_the_server(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as pgcli:
        assert not postgres.stop_if_unused(folder)
        assert pgcli.execute("SELECT 1").fetchone() == (1,)

    assert postgres.stop_if_unused(folder)


def test_process_that_has_yet_to_connect_keeps_the_server(folder: Path) -> None:
    postgres.ensure_running(folder)
    with user_process(folder) as user:
        url = url_of(user)

        assert not postgres.stop_if_unused(folder)
        assert ask(url, "SELECT 1") == 1

        user.kill()
        user.wait()
        assert postgres.stop_if_unused(folder)


def test_last_of_two_that_leave_together_stops_the_server(folder: Path) -> None:
    leave = START_AND_STAY + "print(postgres.stop_if_unused(Path(sys.argv[1])), flush=True)\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", leave, str(folder)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        url_of(process)
    with ThreadPoolExecutor() as threads:
        answers = [
            out.strip() for out, _ in threads.map(lambda each: each.communicate(), processes)
        ]

    assert sorted(answers) == ["False", "True"]
    assert postmasters(folder) == []


def test_server_started_by_hand_stays_until_it_is_stopped(folder: Path) -> None:
    postgres.ensure_running(folder)
    postgres.keep(folder)

    assert not postgres.stop_if_unused(folder)
    assert postgres.stop(folder)

    postgres.ensure_running(folder)
    assert postgres.stop_if_unused(folder)


def test_start_and_stop_by_turns_never_lose_a_user(folder: Path) -> None:
    """Whoever was given a URL can connect, while others leave as fast as they can."""
    postgres.ensure_running(folder)
    churn = """
import sys
from pathlib import Path
import psycopg
import postgres
folder = Path(sys.argv[1])
for _ in range(8):
    psycopg.connect(postgres.ensure_running(folder)).close()
    postgres.stop_if_unused(folder)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", churn, str(folder)], cwd=PROJECT) for _ in range(3)
    ]
    postgres.stop_if_unused(folder)
    assert [process.wait(60) for process in processes] == [0, 0, 0]
