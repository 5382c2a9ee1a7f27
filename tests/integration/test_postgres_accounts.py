"""Whose the embedded server is: owners, permissions, and paths of every kind."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

import postgres
from postgres.address import socket_folder
from postgres.programs import program_folder
from tests.support.embedded import (
    AS_ROOT,
    NOBODY,
    ask,
    end,
    mode_of,
    pid_of,
)


def test_only_the_owner_gets_in(new_folder: Path) -> None:
    before = {parent: mode_of(parent) for parent in new_folder.parents}
    programs = program_folder()
    before |= {path: mode_of(path) for path in (programs, *programs.parents, *programs.iterdir())}

    postgres.ensure_running(new_folder)

    for path in (new_folder, new_folder / "data", new_folder / ".s.PGSQL.5432"):
        assert mode_of(path) == 0o700, path
    assert {path: mode_of(path) for path in before} == before


def test_loose_folder_is_tightened(folder: Path) -> None:
    postgres.ensure_running(folder)
    folder.chmod(0o755)

    postgres.ensure_running(folder)

    assert mode_of(folder) == 0o700


@pytest.mark.parametrize("name", ["x" * 120, "a,b:c", "ä space"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / ".postgres"
    try:
        url = postgres.ensure_running(folder)
        assert ask(url, "SELECT 1") == 1
        assert postgres.running_url(folder) == url
        assert postgres.ensure_running(folder) == url
        socket_folder = Path(str(ask(url, "SHOW unix_socket_directories")))
        assert mode_of(socket_folder) == 0o700
        assert postgres.stop(folder)
        assert socket_folder == folder or not socket_folder.exists()
    finally:
        end(folder)


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
        assert psutil.Process(pid_of(home / ".postgres")).uids().real == NOBODY
    finally:
        end(home / ".postgres")


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

    assert ask(postgres.ensure_running(new_folder), "SELECT 1") == 1

    assert Path(psutil.Process(pid_of(new_folder)).exe()).is_relative_to(package)
    assert psutil.Process(pid_of(new_folder)).uids().real != 0
    assert mode_of(package.parent) == 0o700


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Make a folder of an ordinary user's, which others than root can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name).resolve()
        if AS_ROOT:
            os.chown(place, NOBODY, NOBODY)
        yield place
        end(place / ".postgres")


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
