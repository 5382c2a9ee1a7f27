"""What can go wrong with the embedded server, said so that a person knows what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PostgresError(Exception):
    """The embedded server can't be used; the message says why and what to do, in a line or two."""


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PostgresError(
            f"The PostgreSQL folder {folder} can't be used: {error}. "
            "Mend that, or choose another folder, or set POSTGRES_URL to a server of yours."
        ) from error
