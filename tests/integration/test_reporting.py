"""What a person sees of imports: progress, `status`, `errors`, the views behind them."""

import io
import json
import logging
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy.orm import Session

import database
import imports
import pages
import reporting
import telemetry
import terminal
from liveness import Presence
from randomuser import SOURCE
from tests.support.databases import Sql
from tests.support.programs import PROJECT, Importer

USERS = PROJECT / "data" / "data.json.200"
ESCAPE = "\x1b"
COMMANDS = (
    ("import",),
    ("check",),
    ("status",),
    ("errors",),
    ("report",),
    ("retry",),
    ("worker",),
    ("cancel",),
    ("prune",),
    ("migrate",),
    ("postgres", "start"),
    ("postgres", "env"),
    ("postgres", "stop"),
)


@pytest.fixture
def rejects(tmp_path: Path) -> Path:
    """200 users: three lack a first name, one has a city that would colour a terminal."""
    users = json.loads(USERS.read_text())["results"]
    for user in users[10:13]:
        del user["name"]["first"]
    users[50]["dob"] = {"date": f"{ESCAPE}[31m", "age": 1}
    file = tmp_path / "users.jsonl"
    file.write_text("".join(json.dumps(user) + "\n" for user in users))
    return file


def test_status_and_errors_tell_what_became_of_an_import(
    importer: Importer, rejects: Path, sql: Sql
) -> None:
    summary = importer.run("import", "--input", rejects, "--chunk-size", "50").json()

    [listed] = importer.run("status", "--json").json()
    assert listed["import_id"] == summary["import_id"]
    assert listed["origin"] == str(rejects)
    for name in ("status", "users", "imported", "skipped", "rejected", "seconds"):
        assert listed[name] == summary[name]

    [detailed] = importer.run("status", summary["import_id"][:6], "--json").json()
    assert (detailed["loaded_chunks"], detailed["running_chunks"]) == (4, 0)
    assert [worker["users"] for worker in detailed["by_worker"]] == [200]

    reasons = importer.run("errors", "--json").json()
    assert [(reason["field"], reason["errors"]) for reason in reasons] == [
        ("$.name.first", 3),
        ("$.dob.date", 1),
    ]
    assert reasons[0]["example_position"] == 10
    shown = importer.run("errors", summary["import_id"]).stdout.splitlines()
    assert len(shown) == 4
    assert "$.name.first: Object missing required field `first`" in shown[0]
    assert sql.value("SELECT users FROM users_by_import") == 196


def test_numbers_of_an_import_under_way_come_from_its_chunks(
    db: database.Database, sql: Sql
) -> None:
    this = staged_import(db)
    sql("UPDATE chunks SET imported = 50, executor_id = 'a', loaded_at = now() WHERE chunk = 1")
    with Presence(db), Session(db.engine) as session:
        progress = reporting.progress(session, db.client, this)

    assert (progress.standing.done, progress.standing.wanted) == (50, 200)
    assert (progress.running, progress.waiting) == (0, 3)
    assert progress.standing.seconds_left is not None


def test_time_in_which_nobody_could_work_does_not_count_for_the_speed(
    db: database.Database, sql: Sql
) -> None:
    this = staged_import(db)
    sql("UPDATE imports SET resumed_at = now() - interval '1 hour'")
    with Presence(db), Session(db.engine) as session:
        sql("UPDATE chunks SET executor_id = 'a', loaded_at = clock_timestamp() WHERE chunk = 1")
        standing = reporting.standing(session, this.id)

    assert standing.seconds > 3_000
    assert standing.users_per_second > 0


@pytest.mark.parametrize("state", ["running", "complete"])
def test_only_an_import_that_should_be_worked_on_is_stalled_when_nobody_lives(
    db: database.Database, sql: Sql, state: str
) -> None:
    this = staged_import(db)
    sql("UPDATE imports SET state = %s", state)
    states = []
    with Session(db.engine) as session:
        with Presence(db):
            states.append(reporting.standing(session, this.id).state)
        states.append(reporting.standing(session, this.id).state)

    assert states == ([state, "stalled"] if state == "running" else [state, state])


def staged_import(db: database.Database) -> imports.Import:
    """Of 200 users, in four chunks, on which nobody works."""
    plan = imports.Plan(
        request="test", source="randomuser", path="users.jsonl", batch_size=10, chunk_size=50
    )
    with Session(db.engine) as session, session.begin():
        this = imports.find_or_create(session, plan, again=False)[0]
    records = SOURCE.split(USERS.read_bytes())
    database.transaction("stage", pages._stage, SOURCE, this, 1, None, records)
    return this


def test_what_is_redirected_is_json_without_escape_codes(importer: Importer, rejects: Path) -> None:
    result = importer.run("import", "--input", rejects)

    [line] = result.stdout.splitlines()
    assert json.loads(line)["rejected"] == 4
    assert all(json.loads(line) for line in result.stderr.splitlines())
    for command in (["status"], ["errors"], ["errors", json.loads(line)["import_id"]]):
        assert ESCAPE not in importer.run(*command).stdout


def test_no_color_is_honoured_and_records_cannot_colour(importer: Importer, rejects: Path) -> None:
    importer.run("import", "--input", rejects)
    forced = {"FORCE_COLOR": "1", "NO_COLOR": "1"}

    for command in (["status"], ["errors"]):
        shown = importer.run(*command, env=forced).stdout
        assert f"{ESCAPE}[3" not in shown


def test_quiet_says_nothing_of_an_import_that_goes_well(importer: Importer) -> None:
    result = importer.run("import", "--quiet", "--input", USERS)

    assert (result.status, result.stdout, result.stderr) == (0, "", "")


def test_a_report_is_opened_in_the_browser(importer: Importer, tmp_path: Path) -> None:
    importer.run("import", "--input", USERS)
    report, opened, browser = tmp_path / "a b.html", tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)

    result = importer.run("report", "--output", report, "--open", env={"BROWSER": str(browser)})

    assert (result.status, result.stdout.strip()) == (0, str(report))
    assert opened.read_text().strip() == report.as_uri()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS always has a browser")
def test_a_report_that_no_browser_can_open_is_named(importer: Importer, tmp_path: Path) -> None:
    importer.run("import", "--input", USERS)
    report = tmp_path / "report.html"

    result = importer.run("report", "--output", report, "--open", env={"PATH": "", "BROWSER": ""})

    assert result.status == 0
    assert f"open {report} yourself" in result.stderr


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("sometimes", [[], ["updated", "skipped"]])
def test_tables_fit_the_terminal(db: database.Database, width: int, sometimes: list[str]) -> None:
    with Session(db.engine) as session, session.begin():
        plan = imports.Plan(request="test", source="randomuser", batch_size=10, chunk_size=500)
        imports.find_or_create(session, plan, again=False)
    with Presence(db), Session(db.engine) as session:
        [standing] = reporting.standings(session)
    many = dict.fromkeys(("users", "imported", "rejected", "users_per_second", *sometimes), 99_999)
    found = [replace(standing, wanted=1_000_000, **many)]  # type: ignore[arg-type]
    console = Console(width=width, record=True, file=io.StringIO())
    terminal.show_imports(console, found)
    lines = console.export_text().splitlines()

    assert max(map(len, lines)) <= width
    assert lines[0].split() == [
        "import",
        "state",
        "when",
        "users",
        "imported",
        *sometimes,
        "rejected",
        "users/s",
        "left",
        *["workers"] * (width == 120 or not sometimes),
    ]
    assert "…" not in console.export_text()


def test_the_newest_wait_is_shown_for_as_long_as_it_lasts() -> None:
    notice = terminal.WaitNotice()
    logger = logging.Logger("test")
    logger.addHandler(notice)
    shown = []
    for message, extra in (
        ("ordinary", {}),
        ("a\x1b[1m 429; trying again", {"waiting": True, "seconds": 60}),
        ("over", {"waiting": True, "seconds": -1}),
    ):
        logger.warning(message, extra=extra)
        shown.append(notice.text)

    assert shown[0] is None
    assert re.fullmatch(r"waiting until [\d:]{8}: a\\x1b\[1m 429", shown[1] or "")
    assert shown[2] is None


def test_a_wait_of_another_import_is_not_shown() -> None:
    notice = terminal.WaitNotice()
    notice.import_id = "ours"
    logger = logging.Logger("test")
    logger.addHandler(notice)
    shown = []
    for import_id in ("another", "ours"):
        with telemetry.working_on(import_id):
            logger.warning("429", extra={"waiting": True, "seconds": 60})
        shown.append(notice.text is not None)

    assert shown == [False, True]


@pytest.mark.timeout(400)
def test_the_example_in_every_help_works_when_pasted(
    importer: Importer, rejects: Path, tmp_path: Path
) -> None:
    """In a folder of its own, in an order in which each finds what it needs."""
    folder = tmp_path / "pasted"
    folder.mkdir()
    for name in ("integration.py", "data"):
        (folder / name).symlink_to(PROJECT / name)
    import_id = importer.run("import", "--input", rejects).json()["import_id"]
    for command in COMMANDS:
        example = example_of(importer, command).replace("5f2c", import_id[:4])
        shell = ["sh", "-c", example]
        if command == ("worker",):
            worker = importer.programs.spawn(*shell, cwd=folder)
            worker.wait_for("is ready", timeout=90)
            continue
        result = importer.programs.run(*shell, cwd=folder, timeout=120)
        # A cancelled import would have to be running; one with rejects says so by its status.
        assert result.status in ({0, 1} if command == ("cancel",) else {0, 3}), result.stderr
        assert "Usage" not in result.stderr


def example_of(importer: Importer, command: tuple[str, ...]) -> str:
    text = importer.run(*command, "--help").stdout
    assert "Example: " in text, shlex.join(command)
    words = text.partition("Example: ")[2].partition("\n\n")[0]
    return " ".join(words.split())


def test_bash_completes_commands_and_options(importer: Importer) -> None:
    assert {command[0] for command in COMMANDS} <= completed(importer, "integration.py", "")
    assert completed(importer, "integration.py", "status", "--j") == {"--json"}
    assert completed(importer, "another.py", "") == set()


def completed(importer: Importer, *words: str) -> set[str]:
    script = """
        source deploy/completion.bash
        COMP_WORDS=(python "$@") COMP_CWORD=$#
        _integration python
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    result = importer.programs.run("bash", "-c", script, "bash", *words)
    assert result.stderr == ""
    return set(result.stdout.split())
