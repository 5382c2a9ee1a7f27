"""Procrastinate: a job for each so many users, handed over by value.

python -m benchmarks.contenders.procrastinate_jobs FILE USERS_PER_JOB
"""

import asyncio
import os
import sys
from pathlib import Path

import procrastinate
import psycopg_pool
from procrastinate.types import JSONDict

from benchmarks.contenders.records import INSERT, batches, timed, values

AT_A_TIME = 4
JOBS_DEFERRED_AT_ONCE = 100


async def main(path: Path, users_per_job: int, url: str) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    async with psycopg_pool.AsyncConnectionPool(url, open=False) as pool, app.open_async():

        async def insert(batch: list[str]) -> None:
            async with pool.connection() as connection:
                rows = [values(record) for record in batch]
                await connection.cursor().executemany(INSERT, rows)

        import_batch = app.task(name="import_batch")(insert)
        await app.schema_manager.apply_schema_async()
        with timed():
            jobs: list[JSONDict] = []
            for batch in batches(path, users_per_job):
                jobs.append({"batch": [*batch]})
                if len(jobs) == JOBS_DEFERRED_AT_ONCE:
                    await import_batch.batch_defer_async(*jobs)
                    jobs.clear()
            if jobs:
                await import_batch.batch_defer_async(*jobs)
            await app.run_worker_async(wait=False, concurrency=AT_A_TIME)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), os.environ["POSTGRES_URL"]))
