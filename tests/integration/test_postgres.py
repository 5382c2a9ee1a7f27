"""The embedded server, with real servers in folders of their own and real processes around it."""

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import psycopg
import pytest

import postgres
from postgres.address import socket_folder
from postgres.locks import Patience, locked
from postgres.programs import program_folder

ROOT = Path(postgres.__file__).parent.parent
AS_ROOT = os.geteuid() == 0
NOBODY = 65534

START_AND_STAY = """
import sys
from pathlib import Path
import postgres
print(postgres.ensure_running(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def new_folder(tmp_path: Path) -> Iterator[Path]:
    """Name a folder that isn't there yet."""
    folder = tmp_path / ".postgres"
    yield folder
    _end(folder)


@pytest.fixture(scope="module")
def stopped_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / ".postgres"
    postgres.ensure_running(folder)
    assert postgres.stop(folder)
    return folder


@pytest.fixture
def folder(new_folder: Path, stopped_server: Path) -> Path:
    """Copy a server that was made and stopped, which is quicker than making one."""
    subprocess.run(["cp", "-a", stopped_server, new_folder], check=True)
    return new_folder


def _end(folder: Path) -> None:
    """Stop what a test left, whatever it did to the folder."""
    for process in _postmasters(folder):
        process.send_signal(signal.SIGQUIT)
    _wait_until(lambda: not _postmasters(folder))


def _postmasters(folder: Path) -> list[psutil.Process]:
    data = str(folder / "data")
    return [
        process
        for process in psutil.process_iter(["name", "cmdline", "status"])
        if process.info["name"] == "postgres"
        and data in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _pid_file(folder: Path) -> Path:
    return folder / "data" / "postmaster.pid"


def _pid(folder: Path) -> int:
    return int(_pid_file(folder).read_text().splitlines()[0])


def _ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def _wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill_postmaster(folder: Path) -> None:
    pid = _pid(folder)
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: _is_gone(pid))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def _importer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has called ensure_running, and has not connected yet."""
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_STAY, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_first_start_makes_cluster_and_database(new_folder: Path) -> None:
    url = postgres.ensure_running(new_folder)

    assert url == f"postgresql://postgres@/integration?host={new_folder}"
    assert _ask(url, "SELECT current_database()") == "integration"
    assert _ask(url, "SHOW server_encoding") == "UTF8"
    assert _ask(url, "SHOW fsync") == "on"
    locale = "SELECT datlocale FROM pg_database WHERE datname = 'integration'"
    assert _ask(url, locale) == "C.UTF-8"


def test_second_call_leaves_the_running_server_alone(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    pid = _pid(folder)

    assert postgres.ensure_running(folder) == url
    assert postgres.running_url(folder) == url
    assert _pid(folder) == pid


def test_data_survive_a_restart(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")

    assert postgres.stop(folder)
    assert postgres.running_url(folder) is None
    assert not postgres.stop(folder)

    assert _ask(postgres.ensure_running(folder), "SELECT seven FROM kept") == 7


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

    assert _ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_cluster_that_was_killed_in_the_making_is_made_anew(new_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_STAY, str(new_folder)], cwd=ROOT, start_new_session=True
    )
    _wait_until(lambda: any(new_folder.glob("*/PG_VERSION")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert _ask(postgres.ensure_running(new_folder), "SELECT 1") == 1


def test_no_network_port(folder: Path) -> None:
    url = postgres.ensure_running(folder)

    assert psutil.Process(_pid(folder)).net_connections("inet") == []
    assert _ask(url, "SHOW listen_addresses") == ""


def test_only_the_owner_gets_in(new_folder: Path) -> None:
    before = {parent: _mode(parent) for parent in new_folder.parents}
    programs = program_folder()
    before |= {path: _mode(path) for path in (programs, *programs.parents, *programs.iterdir())}

    postgres.ensure_running(new_folder)

    for path in (new_folder, new_folder / "data", new_folder / ".s.PGSQL.5432"):
        assert _mode(path) == 0o700, path
    assert {path: _mode(path) for path in before} == before


def test_loose_folder_is_tightened(folder: Path) -> None:
    postgres.ensure_running(folder)
    folder.chmod(0o755)

    postgres.ensure_running(folder)

    assert _mode(folder) == 0o700


def test_four_processes_at_once_share_one_server(new_folder: Path) -> None:
    with (
        _importer(new_folder) as first,
        _importer(new_folder) as second,
        _importer(new_folder) as third,
        _importer(new_folder) as fourth,
    ):
        urls = {_url_of(process) for process in (first, second, third, fourth)}

    assert urls == {f"postgresql://postgres@/integration?host={new_folder}"}
    assert len(_postmasters(new_folder)) == 1


def test_waits_for_another_process_only_so_long(folder: Path) -> None:
    postgres.ensure_running(folder)
    said: list[str] = []
    with (
        locked(folder, Patience(1, said.append)),
        pytest.raises(postgres.PostgresError, match="Another process"),
    ):
        postgres.ensure_running(folder, timeout=3.5, on_wait=said.append)
    assert said


def test_stale_pid_of_nobody(folder: Path) -> None:
    postgres.ensure_running(folder)
    stale = _pid_file(folder).read_bytes()
    postgres.stop(folder)
    _pid_file(folder).write_bytes(stale)

    assert postgres.running_url(folder) is None
    assert not postgres.stop(folder)
    assert _ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_empty_pid_file(folder: Path) -> None:
    _pid_file(folder).touch()

    assert _ask(postgres.ensure_running(folder), "SELECT 1") == 1


def test_stale_pid_that_another_process_has_now(folder: Path) -> None:
    postgres.ensure_running(folder)
    pid = str(_pid(folder))
    leftovers = (_pid_file(folder), folder / ".s.PGSQL.5432.lock")
    texts = [path.read_text() for path in leftovers]
    postgres.stop(folder)
    # The server is wary of processes of its own account only.
    with subprocess.Popen(["sleep", "600"], user=folder.stat().st_uid) as stranger:
        try:
            for path, text in zip(leftovers, texts, strict=True):
                path.write_text(text.replace(pid, str(stranger.pid), 1))

            assert postgres.running_url(folder) is None
            assert not postgres.stop(folder)
            assert _ask(postgres.ensure_running(folder), "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_killed_postmaster_is_started_again(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    with psycopg.connect(url):
        _kill_postmaster(folder)

        assert postgres.running_url(folder) is None
        assert postgres.ensure_running(folder) == url
    assert _ask(url, "SELECT seven FROM kept") == 7


def test_postmaster_killed_while_its_database_is_looked_for_is_started_again(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")

    def kill(message: str) -> None:
        assert "takes no connections yet" in message
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true")
        _kill_postmaster(folder)

    assert postgres.ensure_running(folder, timeout=20, on_wait=kill) == url
    assert _ask(url, "SELECT 1") == 1


def test_killed_postmaster_whose_child_lives_on_is_waited_for(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    connection = psycopg.connect(url)
    child = connection.info.backend_pid
    os.kill(child, signal.SIGSTOP)
    try:
        _kill_postmaster(folder)
        with ThreadPoolExecutor() as threads:
            restart = threads.submit(postgres.ensure_running, folder)
            _wait_until(lambda: "is still in use" in (folder / "log").read_text())
            assert not restart.done()
            os.kill(child, signal.SIGCONT)
            assert restart.result(timeout=30) == url
    finally:
        if not _is_gone(child):
            os.kill(child, signal.SIGKILL)
        connection.close()
    assert len(_postmasters(folder)) == 1


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

    assert _ask(url, "SELECT pg_is_in_recovery()") is False
    assert "recovering" in said[0]


def test_recovering_server_can_be_stopped(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("restore_command = 'sleep 1; false'\nhot_standby = off\n")
    (folder / "data" / "standby.signal").touch()
    with pytest.raises(postgres.PostgresError, match="not ready"):
        postgres.ensure_running(folder, timeout=1)

    assert postgres.stop(folder)
    assert _postmasters(folder) == []


@pytest.mark.parametrize("name", ["x" * 120, "a,b:c", "ä space"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / ".postgres"
    try:
        url = postgres.ensure_running(folder)
        assert _ask(url, "SELECT 1") == 1
        assert postgres.running_url(folder) == url
        assert postgres.ensure_running(folder) == url
        socket_folder = Path(str(_ask(url, "SHOW unix_socket_directories")))
        assert _mode(socket_folder) == 0o700
        assert postgres.stop(folder)
        assert socket_folder == folder or not socket_folder.exists()
    finally:
        _end(folder)


def test_socket_folder_that_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ".postgres"
    place = socket_folder(folder)
    place.mkdir()
    place.chmod(0o777)
    try:
        with pytest.raises(postgres.PostgresError, match="somebody else"):
            postgres.ensure_running(folder)
    finally:
        place.rmdir()


def test_unused_server_is_stopped(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url):
        pass  # a session that was closed a moment ago

    assert postgres.stop_if_unused(folder)
    assert _postmasters(folder) == []


def test_open_session_keeps_the_server(folder: Path) -> None:
    url = postgres.ensure_running(folder)
    with psycopg.connect(url) as pgcli:
        assert not postgres.stop_if_unused(folder)
        assert pgcli.execute("SELECT 1").fetchone() == (1,)

    assert postgres.stop_if_unused(folder)


def test_process_that_has_yet_to_connect_keeps_the_server(folder: Path) -> None:
    postgres.ensure_running(folder)
    with _importer(folder) as importer:
        url = _url_of(importer)

        assert not postgres.stop_if_unused(folder)
        assert _ask(url, "SELECT 1") == 1

        importer.kill()
        importer.wait()
        assert postgres.stop_if_unused(folder)


def test_last_of_two_that_leave_together_stops_the_server(folder: Path) -> None:
    leave = START_AND_STAY + "print(postgres.stop_if_unused(Path(sys.argv[1])), flush=True)\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", leave, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        _url_of(process)
    with ThreadPoolExecutor() as threads:
        answers = [
            out.strip() for out, _ in threads.map(lambda each: each.communicate(), processes)
        ]

    assert sorted(answers) == ["False", "True"]
    assert _postmasters(folder) == []


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
        subprocess.Popen([sys.executable, "-c", churn, str(folder)], cwd=ROOT) for _ in range(3)
    ]
    postgres.stop_if_unused(folder)
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_folder_moved_while_its_server_runs(folder: Path, tmp_path: Path) -> None:
    postgres.ensure_running(folder)
    pid = _pid(folder)
    moved = tmp_path / "moved"
    folder.rename(moved)

    for act in (postgres.ensure_running, postgres.running_url, postgres.stop):
        with pytest.raises(postgres.PostgresError, match=f"moved or copied .*kill -INT {pid}"):
            act(moved)
    with pytest.raises(postgres.PostgresError, match=f"kill -INT {pid}"):
        postgres.ensure_running(folder)

    os.kill(pid, signal.SIGINT)
    _wait_until(lambda: _is_gone(pid))
    assert _ask(postgres.ensure_running(moved), "SELECT 1") == 1
    _end(moved)


def test_failed_start_says_why_and_where_to_look(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = much\n")

    with pytest.raises(postgres.PostgresError) as refused:
        postgres.ensure_running(folder)

    assert "FATAL:  configuration file" in str(refused.value)
    assert str(folder / "log") in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


def test_file_in_the_place_of_the_folder(new_folder: Path) -> None:
    new_folder.write_text("")
    with pytest.raises(postgres.PostgresError, match="can't be used"):
        postgres.ensure_running(new_folder)


@pytest.mark.skipif(not AS_ROOT, reason="root's folders are root's matter")
def test_folder_of_roots_own_is_not_taken_over(new_folder: Path) -> None:
    new_folder.mkdir()
    (new_folder / "precious").touch()

    with pytest.raises(postgres.PostgresError, match="is not empty"):
        postgres.ensure_running(new_folder)

    assert new_folder.stat().st_uid == 0


@pytest.mark.skipif(not AS_ROOT, reason="only root can give files away")
def test_root_runs_the_server_as_the_owner_of_the_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    try:
        postgres.ensure_running(home / ".postgres")
        assert psutil.Process(_pid(home / ".postgres")).uids().real == NOBODY
    finally:
        _end(home / ".postgres")


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user can reach what is the user's own")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_programs_that_only_root_can_reach(
    new_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    installed = program_folder().parent
    package = tmp_path / "private" / installed.parent.name
    shutil.copytree(installed, package / installed.name)
    (package / "__init__.py").touch()
    libraries = f"{package.name}.libs"
    shutil.copytree(installed.parent.with_name(libraries), package.with_name(libraries))
    package.parent.chmod(0o700)
    for program in (package / installed.name / "bin").iterdir():
        program.chmod(mode)
    monkeypatch.syspath_prepend(package.parent)

    assert _ask(postgres.ensure_running(new_folder), "SELECT 1") == 1

    assert Path(psutil.Process(_pid(new_folder)).exe()).is_relative_to(package)
    assert psutil.Process(_pid(new_folder)).uids().real != 0
    assert _mode(package.parent) == 0o700


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Make a folder of an ordinary user's, which others than root can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name).resolve()
        if AS_ROOT:
            os.chown(place, NOBODY, NOBODY)
        yield place
        _end(place / ".postgres")


def test_ordinary_user_has_all_of_it(open_place: Path) -> None:
    folder = open_place / ".postgres"

    said = _start_and_stop_as_ordinary_user(folder)

    assert said == f"postgresql://postgres@/integration?host={folder}, then stopped: True"


def test_read_only_place(open_place: Path) -> None:
    open_place.chmod(0o555)

    said = _start_and_stop_as_ordinary_user(open_place / ".postgres")

    assert said.startswith(f"The PostgreSQL folder {open_place}/.postgres can't be used: ")
    assert "Permission denied" in said


@pytest.mark.skipif(not AS_ROOT, reason="only root can make a folder that is somebody else's")
def test_folder_of_somebody_else(open_place: Path) -> None:
    folder = open_place / ".postgres"
    folder.mkdir(mode=0o700)

    said = _start_and_stop_as_ordinary_user(folder)

    assert said.startswith(f"The PostgreSQL folder {folder} can't be used: ")
    assert "Permission denied" in said


def _start_and_stop_as_ordinary_user(folder: Path) -> str:
    # A fork, because an ordinary user need not be able to read root's Python.
    fork = multiprocessing.get_context("fork")
    answer, end = fork.Pipe(duplex=False)
    child = fork.Process(target=_start_and_stop, args=(folder, end))
    child.start()
    end.close()
    try:
        return str(answer.recv())
    finally:
        child.join(20)


def _start_and_stop(folder: Path, answer: Connection) -> None:
    if AS_ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        url = postgres.ensure_running(folder)
        answer.send(f"{url}, then stopped: {postgres.stop_if_unused(folder)}")
    except postgres.PostgresError as error:
        answer.send(str(error))


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


def _is_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_server_of_a_deleted_folder_is_named(folder: Path) -> None:
    postgres.ensure_running(folder)
    pid = _pid(folder)
    # In turns with the server, which still writes: rmtree alone fails at a file that came or went.
    _wait_until(lambda: _is_removed(folder))

    with pytest.raises(postgres.PostgresError, match=f"deleted or moved .*kill -INT {pid}"):
        postgres.ensure_running(folder)

    os.kill(pid, signal.SIGINT)
    _wait_until(lambda: _is_gone(pid))
    assert _ask(postgres.ensure_running(folder), "SELECT 1") == 1
