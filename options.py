"""What several commands share: their options, and the session of those that only read."""

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import typer
from sqlalchemy.orm import Session

import database


class ImportWorkflow(Protocol):
    def __call__(self, import_id: str, attempt: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Workflows:
    """What the commands start: handed over, since importing `integration` would load it twice."""

    import_users: ImportWorkflow


NOT_COMPLETE = 1
REJECTS = 3
EXIT_STATUS = {"complete": 0, "complete_with_rejects": REJECTS}
"""By an import's state; any other is NOT_COMPLETE."""

AsJson = Annotated[bool, typer.Option("--json", envvar="IMPORT_JSON", help="Print JSON.")]
ImportId = Annotated[
    str | None, typer.Argument(metavar="IMPORT", help="An import's id, or how it begins.")
]
SourceName = Annotated[
    str,
    typer.Option("--source", envvar="IMPORT_SOURCE", help="The API: a module with a SOURCE."),
]


def read_session() -> Session:
    """A session for commands that take no part in the work. Raises NotMigrated."""
    engine = database.database().engine
    database.require_current(engine)
    return Session(engine)
