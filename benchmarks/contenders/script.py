"""What one writes first: all users into memory, one executemany, one commit at the end.

python -m benchmarks.contenders.script FILE
"""

import os
import sys
from pathlib import Path

import psycopg

from benchmarks.contenders.records import INSERT, lines, timed, values


def main(path: Path, url: str) -> None:
    with psycopg.connect(url) as connection, timed():
        rows = [values(line) for line in lines(path)]
        connection.cursor().executemany(INSERT, rows)
        connection.commit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ["POSTGRES_URL"])
