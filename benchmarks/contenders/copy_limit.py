"""The limit: one process decodes, validates and streams into one COPY, in one transaction.

python -m benchmarks.contenders.copy_limit FILE
"""

import os
import sys
from pathlib import Path

import psycopg

from benchmarks.contenders.records import COPY, lines, timed, values


def main(path: Path, url: str) -> None:
    with (
        psycopg.connect(url) as connection,
        timed(),
        connection.transaction(),
        connection.cursor().copy(COPY) as copy,
    ):
        for line in lines(path):
            copy.write_row(values(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ["POSTGRES_URL"])
