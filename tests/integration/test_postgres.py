"""The embedded server, started, stopped and killed: real servers in folders of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

import postgres
from postgres.programs import program_folder
from tests.support.embedded import (
    START_AND_STAY,
    ask,
    end,
    is_gone,
    kill_postmaster,
    pid_file,
    pid_of,
    postmasters,
    stopped,
    wait_until,
)
from tests.support.programs import PROJECT


def test_first_start_makes_cluster_and_database(new_folder: Path) -> None:
    url = postgres.ensure_running(new_folder)

    assert url == f"postgresql://postgres@/integration?host={new_folder}"
    assert ask(url, "SELECT current_database()") == "integration"
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SHOW fsync") == "on"
    locale = "SELECT datlocale FROM pg_database WHERE datname = 'integration'"
    assert ask(url, locale) == "C.UTF-8"


def test_second_call_leaves_the_running_server_alone(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    pid = pid_of(folder)

    assert postgres.ensure_running(folder) == url
    assert postgres.running_url(folder) == url
    assert pid_of(folder) == pid


def test_data_survive_a_restart(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")

    assert postgres.stop(folder)
    assert postgres.running_url(folder) is None
    assert not postgres.stop(folder)

    assert ask(postgres.ensure_running(folder), "SELECT seven FROM kept") == 7


def test_nothing_runs_where_nothing_was_started(new_folder: Path) -> None:
    assert postgres.running_url(new_folder) is None
    assert not postgres.stop(new_folder)
    assert not postgres.stop_if_unused(new_folder)
    assert not new_folder.exists()


def test_dropped_database_is_made_again(folder: Path) -> None:
    postgres.ensure_running(folder)
    with psycopg.connect(
        f"postgresql://postgres@/postgres?host={folder}", autocommit=True
    ) as other:
        other.execute("DROP DATABASE integration")

    assert ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_cluster_that_was_killed_in_the_making_is_made_anew(new_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_STAY, str(new_folder)], cwd=PROJECT, start_new_session=True
    )
    wait_until(lambda: any(new_folder.glob("*/PG_VERSION")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert ask(postgres.ensure_running(new_folder), "SELECT 1") == 1


def test_no_network_port(folder: Path) -> None:
    url = postgres.ensure_running(folder)

    assert psutil.Process(pid_of(folder)).net_connections("inet") == []
    assert ask(url, "SHOW listen_addresses") == ""


def test_stale_pid_of_nobody(folder: Path) -> None:
    postgres.ensure_running(folder)
    stale = pid_file(folder).read_bytes()
    postgres.stop(folder)
    pid_file(folder).write_bytes(stale)

    assert postgres.running_url(folder) is None
    assert not postgres.stop(folder)
    assert ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_empty_pid_file(folder: Path) -> None:
    pid_file(folder).touch()

    assert ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_stale_pid_that_another_process_has_now(folder: Path) -> None:
    postgres.ensure_running(folder)
    pid = str(pid_of(folder))
    leftovers = (pid_file(folder), folder / ".s.PGSQL.5432.lock")
    texts = [path.read_text() for path in leftovers]
    postgres.stop(folder)
    # The server is wary of processes of its own account only.
    with subprocess.Popen(["sleep", "600"], user=folder.stat().st_uid) as stranger:
        try:
            for path, text in zip(leftovers, texts, strict=True):
                path.write_text(text.replace(pid, str(stranger.pid), 1))

            assert postgres.running_url(folder) is None
            assert not postgres.stop(folder)
            assert ask(postgres.ensure_running(folder), "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_killed_postmaster_is_started_again(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    with psycopg.connect(url):
        kill_postmaster(folder)

        assert postgres.running_url(folder) is None
        assert postgres.ensure_running(folder) == url
    assert ask(url, "SELECT seven FROM kept") == 7


def test_postmaster_killed_while_its_database_is_looked_for_is_started_again(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")

    killed: list[str] = []

    def kill(message: str) -> None:
        if killed or "takes no connections yet" not in message:
            return
        killed.append(message)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true")
        kill_postmaster(folder)

    assert postgres.ensure_running(folder, timeout=60, on_wait=kill) == url
    assert killed
    assert ask(url, "SELECT 1") == 1


def test_killed_postmaster_whose_child_lives_on_is_waited_for(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    connection = psycopg.connect(url)
    child = connection.info.backend_pid
    os.kill(child, signal.SIGSTOP)
    try:
        kill_postmaster(folder)
        with ThreadPoolExecutor() as threads:
            restart = threads.submit(postgres.ensure_running, folder)
            wait_until(lambda: "is still in use" in (folder / "log").read_text())
            assert not restart.done()
            os.kill(child, signal.SIGCONT)
            assert restart.result(timeout=30) == url
    finally:
        if not is_gone(child):
            os.kill(child, signal.SIGKILL)
        connection.close()
    assert len(postmasters(folder)) == 1


def test_recovery_of_more_than_ten_seconds_is_waited_for(folder: Path) -> None:
    gate = folder / "gate"
    # Recovery that asks an archive for more is as real as any, and lasts as long as the answer.
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("hot_standby = off\n")
        settings.write(f"restore_command = 'while [ ! -e {gate} ]; do sleep 0.1; done; false'\n")
    (folder / "data" / "recovery.signal").touch()
    said: list[str] = []
    started = time.monotonic()

    def end_recovery_in_time(message: str) -> None:
        said.append(message)
        if time.monotonic() - started > 11:
            gate.touch()

    with pytest.raises(postgres.PostgresError, match=r"not ready after 1 s.*try again"):
        postgres.ensure_running(folder, timeout=1)
    assert postgres.running_url(folder) is None
    url = postgres.ensure_running(folder, on_wait=end_recovery_in_time)

    assert ask(url, "SELECT pg_is_in_recovery()") is False
    assert "recovering" in said[0]


def test_recovering_server_can_be_stopped(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("restore_command = 'sleep 1; false'\nhot_standby = off\n")
    (folder / "data" / "standby.signal").touch()
    with pytest.raises(postgres.PostgresError, match="not ready"):
        postgres.ensure_running(folder, timeout=1)

    assert postgres.stop(folder)
    assert postmasters(folder) == []


def test_folder_moved_while_its_server_runs(folder: Path, tmp_path: Path) -> None:
    postgres.ensure_running(folder)
    pid = pid_of(folder)
    moved = tmp_path / "moved"
    folder.rename(moved)

    for act in (postgres.ensure_running, postgres.running_url, postgres.stop):
        with pytest.raises(postgres.PostgresError, match=f"moved or copied .*kill -INT {pid}"):
            act(moved)
    with pytest.raises(postgres.PostgresError, match=f"kill -INT {pid}"):
        postgres.ensure_running(folder)

    os.kill(pid, signal.SIGINT)
    wait_until(lambda: is_gone(pid))
    assert ask(postgres.ensure_running(moved), "SELECT 1") == 1
    end(moved)


def test_failed_start_says_why_and_where_to_look(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = much\n")

    with pytest.raises(postgres.PostgresError) as refused:
        postgres.ensure_running(folder)

    assert "FATAL:  configuration file" in str(refused.value)
    assert str(folder / "log") in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


def test_environment_is_understood_by_psql(folder: Path) -> None:
    names = postgres.environment(postgres.ensure_running(folder))

    answer = subprocess.run(
        [program_folder() / "psql", "-Atc", "SELECT current_database(), current_user"],
        env={"PGPORT": "1"} | names,
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "integration|postgres\n"


def test_environment_of_a_server_elsewhere() -> None:
    url = "postgresql://ann:s%20cret@db.example:6543/users?sslmode=require"

    assert postgres.environment(url) == {
        "POSTGRES_URL": url,
        "PGHOST": "db.example",
        "PGPORT": "6543",
        "PGUSER": "ann",
        "PGPASSWORD": "s cret",
        "PGDATABASE": "users",
        "PGSSLMODE": "require",
    }


def test_server_of_a_deleted_folder_is_named(folder: Path) -> None:
    postgres.ensure_running(folder)
    pid = pid_of(folder)
    # Stopped, it neither writes into the folder meanwhile nor notices: its WAL writer would soon
    # look for a file that is gone, and all of it would end.
    with stopped(folder):
        shutil.rmtree(folder)

        with pytest.raises(postgres.PostgresError, match=f"deleted or moved .*kill -INT {pid}"):
            postgres.ensure_running(folder)

    end(folder)
    assert ask(postgres.ensure_running(folder), "SELECT 1") == 1
