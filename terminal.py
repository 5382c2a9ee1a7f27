"""What a person sees: the progress of an import, its summary, tables of imports and errors."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from imports import Import
from reporting import Progress as ImportProgress

SPEED_SECONDS = 30
"""Over which the shown speed is averaged."""


class UsersPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} users/s")


class ProgressBar:
    """A live bar on standard error; on anything but a terminal it shows nothing."""

    def __init__(self, console: Console, wanted: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            UsersPerSecond(),
            TextColumn("{task.fields[rejected]} rejected"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("importing", total=wanted, rejected=0)

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    @property
    def is_shown(self) -> bool:
        return not self._progress.disable

    def show(self, progress: ImportProgress) -> None:
        totals = progress.totals
        self._progress.update(self._task, completed=totals.done, rejected=totals.rejected)


def escape(text: object) -> str:
    """Text from outside, its control characters made visible: a terminal would obey them."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def show_summary(console: Console, summary: dict[str, Any]) -> None:
    table = Table(title=f"Import {summary['import_id']}: {summary['status']}", show_header=False)
    for name in ("users", "imported", "updated", "skipped", "rejected", "chunks"):
        table.add_row(name, f"{summary[name]:,}")
    table.add_row("seconds", f"{summary['seconds']:.2f}")
    table.add_row("users per second", f"{summary['users_per_second']:,}")
    console.print(table)


def show_imports(console: Console, found: Sequence[Import]) -> None:
    table = Table(
        "import", "state", "started", "users", "imported", "updated", "skipped", "rejected"
    )
    for one in found:
        totals = one.totals
        table.add_row(
            one.id,
            one.state,
            f"{one.started_at:%Y-%m-%d %H:%M:%S}",
            *(
                f"{number:,}"
                for number in (
                    totals.users,
                    totals.imported,
                    totals.updated,
                    totals.skipped,
                    totals.rejected,
                )
            ),
        )
    console.print(table)


def show_errors(console: Console, messages: Sequence[dict[str, Any]]) -> None:
    table = Table("import", "position", "user", "stage", "field", "reason")
    for message in messages:
        error = message["error"]
        table.add_row(
            message["import_id"],
            str(message["position"]),
            escape(message["user_id"] or ""),
            message["stage"],
            escape(error["path"] or ""),
            escape(error["detail"]),
        )
    console.print(table)
