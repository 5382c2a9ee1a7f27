"""The commands that only look: at a file, at imports, at what was rejected."""

import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import database
import pages
import reporting
import settings
import terminal
from options import REJECTS, AsJson, ImportId, SourceName, read_session
from records import decode
from rejects import Reject
from reporting import Reason
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
        found = decode(source, position, record)
        if isinstance(found, Reject):
            rejected += 1
            path, detail = found.failure.path, found.failure.detail
            print(f"{position}: {terminal.escape(path)}: {terminal.escape(detail)}")
    print(f"{users:,} users, {rejected:,} would be rejected")
    raise typer.Exit(REJECTS if rejected else 0)


@app.command()
def status(import_id: ImportId = None, as_json: AsJson = False) -> None:
    """Show imports and how they stand.

    Example: python integration.py status
    """
    with read_session() as session:
        if import_id is None:
            found = reporting.standings(session)
            if as_json:
                _print_json([reporting.as_dict(one) for one in found])
            else:
                terminal.show_imports(terminal.stdout(), found)
            return
        this = reporting.find_import(session, import_id)
        progress = reporting.progress(session, database.database().client, this)
        workers = reporting.workers(session, this.id)
        if as_json:
            _print_json([reporting.details(progress, workers)])
        else:
            terminal.show_import(terminal.stdout(), progress, workers)


@app.command()
def errors(
    import_id: ImportId = None,
    as_json: AsJson = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print each error whole, one JSON object a line.")
    ] = False,
) -> None:
    """Show what was rejected: by reason, or of one import each user.

    Example: python integration.py errors --jsonl > rejected.jsonl
    """
    with read_session() as session:
        which = None if import_id is None else reporting.find_import(session, import_id).id
        if jsonl:
            for message in reporting.errors(session, which):
                print(terminal.json_line(message))
        elif which is None:
            _show_reasons(reporting.reasons(session), as_json)
        elif as_json:
            _print_json(list(reporting.errors(session, which)))
        else:
            terminal.show_errors(terminal.stdout(), reporting.errors(session, which))


@app.command("report")
def report_(
    import_id: ImportId = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The file; report-IMPORT.html otherwise.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write an HTML file on an import: its course, its data.

    On the newest where none is named.

    Example: python integration.py report --output report.html
    """
    # Imported here: what draws the charts takes a second that only this command should cost.
    import report

    with read_session() as session:
        this = reporting.find_import(session, import_id)
        page = report.render(session, this)
    file = output or Path(f"report-{this.id}.html")
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--output") from None
    print(file)
    if open_ and not webbrowser.open(file.absolute().as_uri()):
        print(f"No browser was found here: open {file.absolute()} yourself.", file=sys.stderr)


def _show_reasons(reasons: Sequence[Reason], as_json: bool) -> None:
    if as_json:
        _print_json([asdict(reason) for reason in reasons])
    elif reasons:
        terminal.show_reasons(terminal.stdout(), reasons)
    else:
        print("Nothing was rejected.")


def _print_json(value: object) -> None:
    print(json.dumps(value, default=str, ensure_ascii=False))
