"""Embedded servers in folders of their own, for the tests of `postgres`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres
from tests.support.embedded import end


@pytest.fixture
def new_folder(tmp_path: Path) -> Iterator[Path]:
    """Name a folder that isn't there yet."""
    folder = tmp_path / ".postgres"
    yield folder
    end(folder)


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
