"""Imports in this process, without workflows: a file staged by `pages`, its chunks loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import imports
import loader
import pages
from database import transaction
from imports import Import
from insertion import Counts
from planning import plan_import
from randomuser import SOURCE
from settings import ImportOptions
from tests.support.users import User, lines_of

EXECUTOR = "test"


def stage(
    folder: Path,
    found: Iterable[User | bytes],
    *,
    batch_size: int = 10,
    chunk_size: int = 500,
    on_conflict: Literal["skip", "update"] = "skip",
) -> Import:
    """A new import of these users, all of its pages staged, its chunks on the queue."""
    path = folder / "users.jsonl"
    path.write_bytes(lines_of(found))
    options = ImportOptions(
        input=path, batch_size=batch_size, chunk_size=chunk_size, on_conflict=on_conflict
    )
    plan = plan_import(SOURCE, options)
    this = transaction("create_import", imports.create, plan)
    pages.stage_file(SOURCE, this)
    return this


def load(this: Import) -> Counts:
    """Loads the chunks that remain, in their order."""
    counts = Counts()
    for chunk in transaction("remaining", imports.remaining_chunks, this.id, 1_000):
        counts += load_chunk(this, chunk)
    return counts


def load_chunk(this: Import, chunk: int) -> Counts:
    return Counts(**transaction("load_chunk", loader.load_chunk, this.id, chunk, EXECUTOR))
