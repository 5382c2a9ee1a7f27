"""dlt: pages of rows into its PostgreSQL destination, appended, merged or as Arrow tables.

python -m benchmarks.contenders.dlt_pipeline FILE append|merge|arrow
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import dlt
import pyarrow
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from sqlalchemy import make_url

from benchmarks.contenders.records import COLUMNS, lines, timed, values

PAGE = 5_000

Page = list[dict[str, Any]]


def pages(path: Path) -> Iterator[Page]:
    remaining = lines(path)
    while page := [row(line) for line in islice(remaining, PAGE)]:
        yield page


def row(record: bytes) -> dict[str, Any]:
    """Dlt takes UUIDs as text."""
    values_by_name = dict(zip(COLUMNS, values(record), strict=True))
    return values_by_name | {"id": str(values_by_name["id"])}


def resource(path: Path, way: str) -> Any:
    """What dlt is given: lists of rows, or, for COPY, Arrow tables."""
    if way == "arrow":
        tables = (pyarrow.Table.from_pylist(page) for page in pages(path))
        return dlt.resource(tables, name="random_users", file_format="csv")
    return dlt.resource(
        pages(path),
        name="random_users",
        write_disposition="merge" if way == "merge" else "append",
        primary_key="id",
    )


def credentials(url: str) -> PostgresCredentials:
    """Of a server on a Unix socket: dlt asks for a host and a password, whether used or not."""
    address = make_url(url)
    return PostgresCredentials(
        {
            "username": address.username,
            "password": "unused",
            "database": address.database,
            "host": "localhost",
            "query": dict(address.query),
        }
    )


def main(path: Path, way: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "benchmark",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(credentials(url)),
            dataset_name="dlt",
        )
        with timed():
            pipeline.run(resource(path, way)).raise_on_failed_jobs()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], os.environ["POSTGRES_URL"])
