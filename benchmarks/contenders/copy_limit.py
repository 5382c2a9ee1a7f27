"""The limit: one process decodes, validates and streams into one COPY, in one transaction.

python -m benchmarks.contenders.copy_limit FILE text|binary
"""

import os
import sys
from pathlib import Path

import psycopg

from benchmarks.contenders.records import COLUMN_LIST, COPY, lines, timed, values

TYPES = f"SELECT {COLUMN_LIST} FROM random_users LIMIT 0"  # noqa: S608 (names of our own)


def main(path: Path, form: str, url: str) -> None:
    with psycopg.connect(url) as connection, timed(), connection.transaction():
        types = [column.type_code for column in connection.execute(TYPES).description or ()]
        with connection.cursor().copy(f"{COPY} (FORMAT {form})") as copy:
            if form == "binary":
                copy.set_types(types)
            for line in lines(path):
                copy.write_row(values(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], os.environ["POSTGRES_URL"])
