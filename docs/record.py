"""Records docs/terminal.svg: `python -m docs.record`, in a clone that was set up by `make run`."""

import io
import os
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.shell import Shell

PICTURE = Path(__file__).parent / "terminal.svg"

COMMANDS = (
    "make run",
    """sed 's/"email":"[^"]*"/"email":5/' data/data.json.20 > broken.json""",
    "python integration.py import --input broken.json --on-conflict update --quiet",
    "python integration.py errors",
    "python integration.py status",
)
SECONDS = 120
"""For one command."""


def main() -> None:
    console = Console(record=True, width=80, file=io.StringIO())
    with Shell(Path.cwd(), os.environ) as shell:
        for command in COMMANDS:
            shell.run(command, SECONDS)
            console.print(Text(f"$ {command}", style="bold green"))
            console.print(Text(shell.output.strip("\n")), end="\n" if shell.output else "")
    console.save_svg(str(PICTURE), title="integration")


if __name__ == "__main__":
    main()
