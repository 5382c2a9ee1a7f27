"""The documents' commands, as a newcomer types them: in order, in a fresh copy of the project."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres
from tests.standin import Standin
from tests.standin.rate_limit import RateLimit
from tests.support.documents import Block, Command, blocks
from tests.support.programs import PROJECT, clean_environment
from tests.support.shell import Shell
from tests.support.waiting import until

COMMAND_SECONDS = 300
"""For one command, on a machine that has much else to do."""

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
WITH_COMMANDS = [
    path for path in DOCUMENTS if any(block.language == "console" for block in blocks(path))
]

NOT_RUN = {
    ("README.md", "it is the tests"),
    ("README.md", "it needs Docker"),
    ("README.md", "it needs several machines"),
    ("operations.md", "it needs several machines"),
}
"""The only blocks that are not run, and why."""

STANDIN_PORT = "8766"
BOOKSHOP_PORT = "8765"
"""In the documents. The tests use free ones, so that two runs on one machine don't meet."""


@pytest.fixture
def ports() -> dict[str, str]:
    """Free ports by those of the documents."""
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
        free = [str(listener.getsockname()[1]) for listener in (one, other)]
    return dict(zip((STANDIN_PORT, BOOKSHOP_PORT), free, strict=True))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """What a clone would have, and the virtual environment of these tests as its own."""
    folder = tmp_path / "integration"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    _link_environment(folder / ".venv")
    yield folder
    postgres.stop(folder / ".postgres")


@pytest.fixture
def shell(project: Path, ports: dict[str, str]) -> Iterator[Shell]:
    """A shell in the project's folder; the stand-in is the API."""
    bookshop = f"http://127.0.0.1:{ports[BOOKSHOP_PORT]}/orders"
    makes = ("MAKE", "MFLAGS")  # These tests may be under make, the commands are not.
    inherited = {k: v for k, v in clean_environment().items() if not k.startswith(makes)}
    with (
        Standin(rate_limit=RateLimit(users=None)) as api,
        Shell(
            project, inherited | {"RANDOMUSER_URL": api.url, "BOOKSHOP_URL": bookshop}
        ) as started,
    ):
        yield started


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.name)
def test_commands_print_what_the_document_says(
    document: Path, shell: Shell, ports: dict[str, str]
) -> None:
    for block in blocks(document):
        if block.language == "console" and block.reason is None:
            for command in block.commands():
                _check(shell, command.with_texts(ports))


def test_few_blocks_are_not_run() -> None:
    marked = {(path.name, block.reason) for path in DOCUMENTS for block in blocks(path)}

    assert {(name, reason) for name, reason in marked if reason is not None} == NOT_RUN


def test_commands_are_in_blocks_that_are_run() -> None:
    assert [
        (path.name, block)
        for path in DOCUMENTS
        for block in blocks(path)
        if block.language in {"", "sh", "bash", "shell"} or _starts_without_command(block)
    ] == []


def _check(shell: Shell, command: Command) -> None:
    shell.run(command.text, COMMAND_SECONDS)
    if command.runs_on:
        until(lambda: command.explains(shell.output), str(command))
    assert command.explains(shell.output), f"{command}\n\nbut it printed\n\n{shell.output}"


def _starts_without_command(block: Block) -> bool:
    return block.language == "console" and not block.lines[0].startswith("$ ")


def _link_environment(venv: Path) -> None:
    """Makes it look set up, by stamps that are newer than the lists of packages."""
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        (venv / entry.name).symlink_to(entry)
    for lock in ("runtime", "dev"):
        (venv / f"{lock}.stamp").unlink(missing_ok=True)
        (venv / f"{lock}.stamp").touch()
