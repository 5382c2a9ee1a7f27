"""DBOS used naively: one workflow, a step for each ten users.

python -m benchmarks.contenders.dbos_steps FILE
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dbos import DBOS, DBOSConfig
from psycopg_pool import ConnectionPool

from benchmarks.contenders.records import INSERT, batches, timed, values

BATCH = 10


@DBOS.workflow()
def import_file(path: str, url: str) -> None:
    """Reads the file again after a crash; the steps that are done are not run again."""
    with ConnectionPool(url) as pool:
        for batch in batches(Path(path), BATCH):
            DBOS.run_step({"name": "insert"}, insert, pool, batch)


def insert(pool: ConnectionPool, batch: Sequence[str]) -> None:
    with pool.connection() as connection:
        connection.cursor().executemany(INSERT, [values(record) for record in batch])


def main(path: str, url: str) -> None:
    config: DBOSConfig = {"name": "steps", "system_database_url": url, "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    with timed():
        import_file(path, url)
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], os.environ["POSTGRES_URL"])
