"""Stops an embedded server when whoever started this process lets go of it, or dies.

    python -m tests.support.end_server FOLDER

A test run that is killed can't clean up after itself; its standard input's other end closes anyway.
"""

import shutil
import sys
from pathlib import Path

import postgres


def main() -> None:
    folder = Path(sys.argv[1])
    sys.stdin.read()
    try:
        postgres.stop(folder)
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
