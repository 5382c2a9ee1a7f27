"""Makes the files of `data/`, byte for byte the same each time.

python -m tests.standin.make_data [FOLDER]
"""

import sys
from pathlib import Path

from tests.standin.query import Query
from tests.standin.users import Users

SEED = "integration"

COUNTS = {
    "data.json": 5_000,
    "data.json.20": 20,
    "data.json.200": 200,
    "data.json.1000": 1_000,
    "data.json.5000": 5_000,
}
"""Users by the name of the file: each the answer to page 1 of that many."""


def write(folder: Path) -> None:
    users = Users()
    for name, count in COUNTS.items():
        page = users.page(Query(SEED, results=count))
        (folder / name).write_bytes(page.encode())


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
