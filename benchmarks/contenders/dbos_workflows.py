"""DBOS used naively: a workflow for each ten users, handed over by value through a queue.

python -m benchmarks.contenders.dbos_workflows FILE
"""

import os
import sys
from pathlib import Path

from dbos import DBOS, DBOSConfig
from psycopg_pool import ConnectionPool

from benchmarks.contenders.records import INSERT, batches, timed, values

BATCH = 10
QUEUE = "batches"
POOL_SECONDS = 600.0
"""For a batch to wait for a connection: as it comes, the queue starts all of them at once."""


def main(path: str, url: str) -> None:
    pool = ConnectionPool(url, timeout=POOL_SECONDS)

    @DBOS.workflow()
    def import_batch(batch: list[str]) -> None:
        DBOS.run_step({"name": "insert"}, insert, batch)

    def insert(batch: list[str]) -> None:
        with pool.connection() as connection:
            connection.cursor().executemany(INSERT, [values(record) for record in batch])

    @DBOS.workflow()
    def import_file(path: str) -> None:
        handles = [
            DBOS.enqueue_workflow(QUEUE, import_batch, batch)
            for batch in batches(Path(path), BATCH)
        ]
        for handle in handles:
            handle.get_result()

    config: DBOSConfig = {"name": "workflows", "system_database_url": url, "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    with pool, timed():
        import_file(path)
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], os.environ["POSTGRES_URL"])
