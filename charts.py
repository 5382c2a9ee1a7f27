"""The report's charts: each drawn by Vega-Lite, and with its numbers as the rows of a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

import altair

from reporting import Moment, Share, Standing, Stretch, Work

OUTCOMES = {
    "at once": "var(--good)",
    "after a takeover": "var(--late)",
    "given up": "var(--bad)",
}
HEIGHT = 240
ROW_HEIGHT = 22
"""Of a horizontal bar, in pixels as all of these."""

AXIS = {
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "domainColor": "currentColor",
    "tickColor": "currentColor",
    "gridColor": "var(--line)",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
}
LEGEND = {
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "labelFontSize": 12,
    "orient": "bottom",
    "columns": 1,
}
CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": AXIS,
    "legend": LEGEND,
}
"""In the page's own colours, so that the charts are light or dark with it."""


@dataclass(frozen=True)
class Chart:
    """A chart, and its numbers for those who can't see it. `id` is its element's in the page."""

    id: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    drawing: altair.Chart

    @property
    def specification(self) -> dict[str, Any]:
        """For vega-embed; as wide as the element that it is put into."""
        drawn = self.drawing.properties(width="container", description=self.title)
        specification: dict[str, Any] = drawn.to_dict()
        return {**specification, "config": CONFIG}


def growth(now: Standing, moments: Sequence[Moment]) -> Chart:
    totals = accumulate((moment.users for moment in moments), initial=0)
    rows = list(zip([now.started_at, *(moment.last_at for moment in moments)], totals, strict=True))
    drawing = (
        _chart(("time", "users"), rows)
        .mark_area(color="var(--good)", opacity=0.5, line={"color": "var(--good)"})
        .encode(x=_time("time"), y=_count("users"))
    )
    return Chart("growth", "Users over time", ("time", "users"), rows, drawing)


def speed(moments: Sequence[Moment]) -> Chart:
    columns = ("from", "to", "users/s")
    rows = [
        (m.start, m.end, round(m.users / max((m.end - m.start).total_seconds(), 0.001)))
        for m in moments
    ]
    drawing = (
        _chart(("from", "to", "speed"), rows)
        .mark_rect(color="var(--good)")
        .encode(x=_time("from"), x2="to:T", y=_count("speed", "users/s"), y2=altair.datum(0))
    )
    return Chart("speed", "Users per second", columns, rows, drawing)


def timeline(stretches: Sequence[Stretch], workers: Sequence[Work]) -> Chart:
    """Workers by their numbers: their names are too long for a narrow screen."""
    numbers = {work.executor_id: number for number, work in enumerate(workers, 1)}
    columns = ("worker", "outcome", "from", "to", "chunks", "users", "takeovers")
    rows = [
        (numbers[s.executor_id], s.outcome, s.start, s.end, s.chunks, s.users, s.takeovers)
        for s in stretches
    ]
    scale = altair.Scale(domain=list(OUTCOMES), range=list(OUTCOMES.values()))
    drawing = (
        _chart(columns, rows)
        .mark_bar(minBandSize=4, height={"band": 0.7}, stroke="var(--page)", strokeWidth=0.5)
        .encode(
            x=_time("from"),
            x2="to:T",
            y=altair.Y("worker:O", title="worker"),
            color=altair.Color("outcome:N", title="chunks", scale=scale),
            tooltip=[f"{name}:{'T' if name in ('from', 'to') else 'N'}" for name in columns],
        )
        .properties(height=ROW_HEIGHT * max(2, len(numbers)))
    )
    return Chart("timeline", "Chunks by the worker that ended them", columns, rows, drawing)


def histogram(id_: str, title: str, shares: Iterable[Share], step: int) -> Chart:
    """Users by a number, in steps."""
    rows = sorted((int(share.value), int(share.value) + step, share.users) for share in shares)
    drawing = (
        _chart(("from", "below", "users"), rows)
        .mark_rect(color="var(--good)", stroke="var(--page)")
        .encode(
            x=altair.X("from:Q", title=None, scale=altair.Scale(zero=False, nice=False)),
            x2="below:Q",
            y=_count("users"),
            y2=altair.datum(0),
        )
    )
    return Chart(id_, title, ("from", "below", "users"), rows, drawing)


def bars(id_: str, title: str, shares: Iterable[Share]) -> Chart:
    """Users by what they have in common, the largest group first."""
    rows = sorted(((share.value, share.users) for share in shares), key=lambda row: -row[1])
    drawing = (
        _chart(("value", "users"), rows)
        .mark_bar(color="var(--good)", height={"band": 0.7})
        .encode(
            x=altair.X("users:Q", title="users", axis=_few_ticks()),
            y=altair.Y("value:N", title=None, sort=None, axis=altair.Axis(labelLimit=150)),
        )
        .properties(height=ROW_HEIGHT * len(rows))
    )
    return Chart(id_, title, ("value", "users"), rows, drawing)


def _chart(names: Sequence[str], rows: Iterable[Sequence[object]]) -> altair.Chart:
    values = [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
    return altair.Chart(altair.InlineData(values=values)).properties(height=HEIGHT)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _time(name: str) -> altair.X:
    return altair.X(f"{name}:T", title=None, axis=_few_ticks(format="%H:%M:%S"))


def _count(name: str, title: str | None = None) -> altair.Y:
    return altair.Y(f"{name}:Q", title=title or name, axis=_few_ticks(format="~s"))


def _few_ticks(**options: Any) -> altair.Axis:
    return altair.Axis(tickCount=5, labelOverlap="greedy", **options)
