"""The report of one import: an HTML file that needs nothing but a browser."""

from datetime import UTC, datetime

import jinja2
import vl_convert
from sqlalchemy.orm import Session

import charts
import reporting
import settings
from charts import Chart
from imports import Import
from reporting import Standing
from source import Facet, Source, load

MAX_MOMENTS = 60
CHUNKS_IN_MOMENT = 5
"""A moment of fewer chunks would show how they happened to end, not how fast the import was."""

MAX_STRETCHES = 300
"""Of time, in the timeline: no screen shows more."""

TEMPLATES = settings.PROJECT_FOLDER / "templates"
DRAW = """
const specifications = JSON.parse(document.getElementById("charts").textContent);
for (const [id, specification] of Object.entries(specifications)) {
  vegaEmbed("#" + id, specification, {renderer: "svg", actions: false});
}
"""


def render(session: Session, this: Import) -> str:
    """The whole file. PostgreSQL does the counting: the file hardly grows with the import."""
    source = load(this.plan.source)
    now = reporting.standing(session, this.id)
    work, data = _work(session, now), _data(session, this, source)
    template = _environment().get_template("report.html")
    return template.render(
        now=now,
        next_for_stalled=reporting.NEXT_FOR_STALLED,
        worker_command=reporting.WORKER_COMMAND,
        numbers=_numbers(now),
        work=work,
        workers=reporting.workers(session, this.id),
        reasons=reporting.reasons(session, this.id),
        data=data,
        written=reporting.written_rows(session, this, source.model),
        made_at=datetime.now(UTC),
        specifications={chart.id: chart.specification for chart in [*work, *data]},
        # Vega itself and DRAW; what comes from records is in the element that it reads.
        script=vl_convert.javascript_bundle(DRAW),
    )


def _work(session: Session, now: Standing) -> list[Chart]:
    drawn = []
    spans = min(MAX_MOMENTS, max(1, now.loaded_chunks // CHUNKS_IN_MOMENT))
    if moments := reporting.moments(session, now.import_id, spans):
        drawn += [charts.growth(now, moments), charts.speed(moments)]
    if stretches := reporting.stretches(session, now.import_id, MAX_STRETCHES):
        workers = reporting.workers(session, now.import_id)
        drawn.append(charts.timeline(stretches, workers))
    return drawn


def _data(session: Session, this: Import, source: Source) -> list[Chart]:
    drawn = [_facet(session, this, source, facet) for facet in source.facets]
    missing = reporting.missing_values(session, this, source.model)
    drawn.append(charts.bars("missing", "Missing values by column", missing))
    return [chart for chart in drawn if chart.rows]


def _facet(session: Session, this: Import, source: Source, facet: Facet) -> Chart:
    title, id_ = f"Users by {facet.title}", f"by-{facet.column}"
    shares = reporting.shares(session, this, source.model, facet)
    if facet.step is None:
        return charts.bars(id_, title, shares)
    return charts.histogram(id_, title, shares, facet.step)


def _numbers(now: Standing) -> dict[str, int]:
    return {
        "users": now.users,
        "imported": now.imported,
        "updated": now.updated,
        "skipped": now.skipped,
        "rejected": now.rejected,
        "users/s": now.users_per_second,
        "chunks": now.chunks,
        "given up": now.failed_chunks,
        "takeovers": now.takeovers,
        "workers": now.workers,
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"moment": _moment, "number": "{:,}".format, "cell": _cell}
    return environment


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone():%H:%M:%S}.{value.microsecond // 1000:03}"
    return f"{value:,}" if isinstance(value, int) else str(value)
