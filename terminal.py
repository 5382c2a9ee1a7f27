"""What a person sees: the progress of an import, its summary, tables of imports and errors."""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Protocol

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

import telemetry
from reporting import NEXT_FOR_STALLED, WORKER_COMMAND, Progress, Reason, Standing, Work

log = logging.getLogger(__name__)

BAR_SECONDS = 0.2
LOG_SECONDS = 10
"""Between two looks at an import's progress, for the bar and for the log."""

SHOWN_ID = 8
"""Of an import's id, in a table: enough for any command to find it."""

WIDE = 100
"""Columns of a terminal from which a date and a time fit into one line of a table."""

WAIT_SECONDS = 5
"""For which a wait is shown that does not say how long it takes."""


@cache
def stdout() -> Console:
    """Standard output: tables for a terminal, and in a file without colours."""
    return Console()


@cache
def stderr() -> Console:
    """Standard error. One for all who write to it, or log lines would tear the bar."""
    return Console(stderr=True)


def log_handler() -> logging.Handler:
    """Log lines for a person, above the bar where there is one."""
    from rich.logging import RichHandler

    handler = RichHandler(console=stderr(), show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(_Escaping("%(message)s"))
    return handler


class ProgressView(Protocol):
    """Shows how far an import is, for as long as it is entered."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exception: object) -> None: ...

    def is_due(self) -> bool:
        """Whether it is time to look again."""
        ...

    def show(self, progress: Progress) -> None: ...


def progress_view(console: Console) -> ProgressView:
    """A live bar in a terminal, else lines in the log."""
    return ProgressBar(console) if console.is_terminal else ProgressLog()


class ProgressLog:
    """A line of the log now and then."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __enter__(self) -> "ProgressLog":
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def is_due(self) -> bool:
        return time.monotonic() - self._said_at >= LOG_SECONDS

    def show(self, progress: Progress) -> None:
        self._said_at = time.monotonic()
        now = progress.standing
        log.info(
            "%s of %s users",
            now.done,
            now.wanted,
            extra={
                "users_per_second": now.users_per_second,
                "rejected": now.rejected,
                "chunks_running": progress.running,
                "chunks_waiting": progress.waiting,
                "workers": now.workers,
                "seconds_left": now.seconds_left,
            },
        )


class ProgressBar:
    """A live bar, and under it what is under way, or what is waited for."""

    def __init__(self, console: Console) -> None:
        self._waits = WaitNotice()
        self._bar = _TwoLines(
            self._waits,
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            *(column(Column(no_wrap=True)) for column in (_Done, _Speed, _TimeLeft)),
            console=console,
            expand=True,
            transient=True,
        )
        self._task = self._bar.add_task("importing", total=None, standing=None)

    def __enter__(self) -> "ProgressBar":
        logging.getLogger().addHandler(self._waits)
        self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bar.stop()
        logging.getLogger().removeHandler(self._waits)

    def is_due(self) -> bool:
        return True

    def show(self, progress: Progress) -> None:
        now = progress.standing
        self._waits.import_id = now.import_id
        self._bar.detail = _detail(progress)
        self._bar.update(
            self._task, completed=now.done, total=now.wanted or None, standing=now, refresh=True
        )


class WaitNotice(logging.Handler):
    """Keeps the newest log line that says what is waited for (`extra={"waiting": True}`).

    With `seconds` the line says how long; it is shown no longer than that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.import_id: str | None = None
        """What is shown: a process may have taken over others, whose waits are not this one's."""
        self._text = ""
        self._until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        is_of_another = telemetry.IMPORT.get() not in {None, self.import_id}
        if is_of_another or not getattr(record, "waiting", False):
            return
        seconds: float | None = getattr(record, "seconds", None)
        self._until = record.created + (seconds or WAIT_SECONDS)
        until = "" if seconds is None else f" until {_clock(self._until)}"
        self._text = f"waiting{until}: {escape(record.getMessage().partition('; ')[0])}"

    @property
    def text(self) -> str | None:
        """None when nothing is waited for."""
        return self._text if time.time() < self._until else None


class _Escaping(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")
        return "\n".join(escape(line) for line in lines)


class _TwoLines(Bar):
    def __init__(self, waits: WaitNotice, *columns: ProgressColumn, **options: Any) -> None:
        self.detail = "starting"
        self._waits = waits
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        wait = self._waits.text
        text, style = (self.detail, "dim") if wait is None else (wait, "yellow")
        yield Text(text, style, overflow="fold")


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f} of {task.total:,.0f} users" if task.total else "")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        standing: Standing | None = task.fields["standing"]
        return Text(f"{standing.users_per_second:,} users/s" if standing else "")


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        standing: Standing | None = task.fields["standing"]
        left = standing.seconds_left if standing else None
        return Text("" if left is None else f"{duration(left)} left")


def json_line(value: object) -> str:
    """JSON to be read and mended by people: its letters as they are, nothing a terminal obeys."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(
        letter if letter.isprintable() else json.dumps(letter).strip('"') for letter in text
    )


def escape(text: object) -> str:
    """Text from outside, its control characters made visible: a terminal would obey them."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def duration(seconds: float | None) -> str:
    """As hours (where there are any), minutes and seconds; a dash where it is not known."""
    if seconds is None:
        return "-"
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")


def count(number: int, what: str) -> str:
    """With its noun, which is one of many, or of one."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{ending}"


def show_summary(console: Console, summary: dict[str, Any], reasons: Sequence[Reason]) -> None:
    """What an import has come to, why users were rejected, and what to type next."""
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name in ("users", "imported", "updated", "skipped", "rejected", "chunks"):
        table.add_row(name, f"{summary[name]:,}")
    table.add_row("seconds", f"{summary['seconds']:.2f}")
    table.add_row("users per second", f"{summary['users_per_second']:,}")
    console.print(f"Import {summary['import_id']}: {_words(summary['status'])}", highlight=False)
    if summary["reason"]:
        console.print(Text(escape(summary["reason"])))
    console.print(table)
    if reasons:
        show_reasons(console, reasons)
        console.print()
    console.print(Text(f"Next: {next_command(summary['import_id'], summary['status'])}"))


def next_command(import_id: str, state: str) -> str:
    """What is most likely wanted after an import that has come to this state."""
    if state == "complete_with_rejects":
        return f"python integration.py errors {import_id}"
    if state == "complete":
        return f"python integration.py report {import_id} --open"
    return f"the same import command goes on; python integration.py status {import_id}"


def show_imports(console: Console, found: Sequence[Standing]) -> None:
    """One line each. Columns that say nothing of any of them are left out."""
    if not found:
        console.print("No import yet: python integration.py import")
        return
    is_running = any(one.state == "running" for one in found)
    sometimes = [
        name for name in ("updated", "skipped") if any(getattr(one, name) for one in found)
    ]
    # Of a narrow terminal that is full, `status IMPORT` tells who works.
    is_full = is_running and bool(sometimes) and console.width < WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("import", no_wrap=True)
    table.add_column("state", min_width=8)
    table.add_column("when", no_wrap=True)
    numbers = ["users", "imported", *sometimes, "rejected", "users/s"]
    for name in (*numbers, *["left"] * is_running, *["workers"] * (not is_full)):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.import_id[:SHOWN_ID],
            _words(one.state),
            _when(one.started_at.astimezone(), is_wide=console.width >= WIDE),
            f"{one.users:,}",
            f"{one.imported:,}",
            *[f"{getattr(one, name):,}" for name in sometimes],
            f"{one.rejected:,}",
            f"{one.users_per_second:,}",
            *[duration(one.seconds_left)] * is_running,
            *[str(one.workers)] * (not is_full),
        )
    console.print(table)
    if stalled := [one for one in found if one.state == "stalled"]:
        console.print(_next_for_stalled(stalled))


def show_import(console: Console, progress: Progress, workers: Sequence[Work]) -> None:
    """One import in detail: its numbers, its chunks by state, who did them."""
    now = progress.standing
    table = Table.grid(padding=(0, 2))
    for name, value in _details(progress):
        table.add_row(name, Text(value))
    console.print(f"Import {now.import_id}: {_words(now.state)}", highlight=False)
    if now.reason:
        console.print(Text(escape(now.reason)))
    if now.state == "stalled":
        console.print(_next_for_stalled([now]))
    console.print(table)
    if workers:
        console.print(_worker_table(workers, progress.busy))


def show_reasons(console: Console, reasons: Sequence[Reason]) -> None:
    """Errors by reason; the import is told only where there are several."""
    is_of_several = len({reason.import_id for reason in reasons}) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    if is_of_several:
        table.add_column("import", no_wrap=True)
    table.add_column("errors", justify="right")
    for name in ("field", "reason", "example"):
        table.add_column(name, overflow="fold")
    for reason in reasons:
        table.add_row(
            *[reason.import_id[:SHOWN_ID]] * is_of_several,
            f"{reason.errors:,}",
            Text(escape(reason.field or "-")),
            Text(escape(reason.reason)),
            Text(_example(reason)),
        )
    console.print(table)


def show_errors(console: Console, messages: Iterator[dict[str, Any]]) -> None:
    """A line each, so that a hundred thousand need no more memory than one."""
    for message in messages:
        error = message["error"]
        where = f"{message['import_id']} {message['stage']} {message['position']}"
        user = f" user {escape(message['user_id'])}" if message["user_id"] else ""
        field = f"{escape(error['path'])}: " if error["path"] else ""
        console.print(Text(f"{where}{user}: {field}{escape(error['detail'])}"), soft_wrap=True)


def _details(progress: Progress) -> Iterator[tuple[str, str]]:
    now = progress.standing
    yield "from", escape(now.origin or now.source)
    yield "started", f"{now.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
    if now.finished_at is not None:
        yield "ended", f"{now.finished_at.astimezone():%Y-%m-%d %H:%M:%S}"
    yield "attempt", str(now.attempt)
    yield "users", f"{now.done:,} of {now.wanted:,}"
    for name in ("imported", "updated", "skipped", "rejected"):
        yield name, f"{getattr(now, name):,}"
    yield "speed", f"{now.users_per_second:,} users/s"
    if now.state == "running":
        yield "time left", duration(now.seconds_left)
    if now.next_page is not None:
        yield "next page", str(now.next_page)
    yield (
        "chunks",
        f"{now.loaded_chunks:,} loaded, {progress.running:,} running, "
        f"{progress.waiting:,} waiting, {now.failed_chunks:,} given up",
    )
    yield "takeovers", str(now.takeovers)
    if progress.dead:
        yield "died", escape(", ".join(progress.dead))


def _worker_table(workers: Sequence[Work], busy: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("worker", overflow="fold")
    for name in ("running", "loaded", "given up", "users"):
        table.add_column(name, justify="right")
    for work in workers:
        table.add_row(
            escape(work.executor_id),
            str(busy.count(work.executor_id)),
            f"{work.chunks - work.failed:,}",
            f"{work.failed:,}",
            f"{work.users:,}",
        )
    return table


def _detail(progress: Progress) -> str:
    now = progress.standing
    parts = [
        f"{now.rejected:,} rejected",
        f"chunks: {progress.running:,} running, {progress.waiting:,} waiting",
        f"{count(max(now.workers, len(set(progress.busy))), 'worker')}",
    ]
    if progress.dead:
        parts.insert(0, f"taking over from {count(len(progress.dead), 'dead process')}")
    elif now.next_page is not None:
        parts.append(f"getting page {now.next_page:,}")
    return " · ".join(parts)


def _example(reason: Reason) -> str:
    user = f", user {escape(reason.example_user)}" if reason.example_user else ""
    return f"position {reason.example_position:,}{user}"


def _next_for_stalled(found: Sequence[Standing]) -> Text:
    which = ", ".join(one.import_id[:SHOWN_ID] for one in found)
    return Text(f"No process works on {which}: {NEXT_FOR_STALLED}:\n{WORKER_COMMAND}")


def _when(moment: datetime, is_wide: bool) -> str:
    """In a narrow table today's as the time, others as the day: its lines stay lines."""
    if is_wide:
        return f"{moment:%m-%d %H:%M}"
    return (
        f"{moment:%H:%M}"
        if moment.date() == datetime.now(moment.tzinfo).date()
        else f"{moment:%m-%d}"
    )


def _words(state: str) -> str:
    return state.replace("_", " ")


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M:%S}"
