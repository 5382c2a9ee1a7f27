"""A shell at a terminal, for commands as a person types them."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.support.waiting import until

END = re.compile(r"\x1e(\d+)\x1e\n?")
"""The end of a command, with its status: a character that no command prints."""


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Shell:
    """bash, its output a terminal of 80 columns that knows no control codes.

    Ends with all that it has started, also in the background, when it is left.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._terminal, output = os.openpty()
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**environment, "TERM": "dumb"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        os.close(output)
        self._said = bytearray()
        self._begin = 0
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Shell":
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        self._reader.join()
        os.close(self._terminal)

    def run(self, command: str, timeout: float) -> int:
        """Runs it to its end, or until it is in the background; its status.

        What it prints is `output`. Fails when it takes longer than `timeout` seconds.
        """
        self._begin = len(self._said)
        # A group, so that the command doesn't read the next one as its input.
        script = f"{{ {command}\n}} </dev/null; printf '\\036%d\\036\\n' $?\n"
        assert self._bash.stdin is not None
        self._bash.stdin.write(script.encode())
        self._bash.stdin.flush()
        end = until(lambda: END.search(self._text()), f"end of {command}", timeout)
        assert end is not None
        return int(end[1])

    @property
    def output(self) -> str:
        """All that was printed since the last command began, without its colours."""
        return COLOUR.sub("", END.sub("", self._text()))

    def _text(self) -> str:
        return self._said[self._begin :].decode(errors="replace").replace("\r\n", "\n")

    def _read(self) -> None:
        # Linux ends what is read with an error when nobody has the terminal any more.
        while said := self._read_some():
            self._said += said

    def _read_some(self) -> bytes:
        try:
            return os.read(self._terminal, 65_536)
        except OSError:
            return b""
