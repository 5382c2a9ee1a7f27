"""The commands that only look: at a file, at imports, at what was rejected."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import imports
import loader
import pages
import reporting
import settings
import terminal
from options import REJECTS, AsJson, ImportId, SourceName, read_session
from source import load

app = typer.Typer()


@app.command()
def check(file: Path, source_name: SourceName = settings.DEFAULT_SOURCE) -> None:
    """Tell what would be rejected of a file, and why; write nothing.

    Example: python integration.py check data/data.json
    """
    source = load(source_name)
    users = rejected = 0
    for position, record in enumerate(pages.read_records(source, file)):
        users += 1
        _, rejects = loader.decode(source, [(position, record)])
        for reject in rejects:
            rejected += 1
            failure = reject.failure
            print(f"{position}: {terminal.escape(failure.path)}: {terminal.escape(failure.detail)}")
    print(f"{users:,} users, {rejected:,} would be rejected")
    raise typer.Exit(REJECTS if rejected else 0)


@app.command()
def status(import_id: ImportId = None, as_json: AsJson = False) -> None:
    """Show imports and how they stand.

    Example: python integration.py status
    """
    with read_session() as session:
        if import_id is None:
            found = reporting.all_imports(session)
        else:
            found = [reporting.find_import(session, import_id)]
        if as_json:
            print(json.dumps([imports.summary(session, one.id) for one in found], default=str))
        else:
            terminal.show_imports(Console(), found)


@app.command()
def errors(
    import_id: ImportId = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line.")] = False,
) -> None:
    """Show what was rejected, and why.

    Example: python integration.py errors --jsonl > rejected.jsonl
    """
    with read_session() as session:
        which = None if import_id is None else reporting.find_import(session, import_id).id
        messages = reporting.errors(session, which)
        if jsonl:
            for message in messages:
                print(json.dumps(message, ensure_ascii=False))
        else:
            terminal.show_errors(Console(), list(messages))
