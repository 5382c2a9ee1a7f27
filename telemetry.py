"""Logs as JSON lines and spans over OTLP: one trace for each import, whoever works on it."""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

import settings

if TYPE_CHECKING:
    from opentelemetry.context import Context

IMPORT: ContextVar[str | None] = ContextVar("import", default=None)
CHUNK: ContextVar[int | None] = ContextVar("chunk", default=None)
ROOT: ContextVar[tuple[int, int] | None] = ContextVar("root", default=None)
"""Ids of the trace and the span of the root span that is being made."""

QUIET = ("dbos", "alembic", "urllib3", "opentelemetry")

EXPORT_SECONDS = 5
"""For a collector to take the last spans; one that is down holds nobody up for longer."""


REPEAT_SECONDS = 30
"""After which DBOS may say the same again."""


@contextmanager
def working_on(import_id: str, chunk: int | None = None) -> Iterator[None]:
    """Names the import and the chunk in every log line and in the current span."""
    tokens = IMPORT.set(import_id), CHUNK.set(chunk)
    annotate(**{"import.id": import_id, **({} if chunk is None else {"import.chunk": chunk})})
    try:
        yield
    finally:
        IMPORT.reset(tokens[0])
        CHUNK.reset(tokens[1])


def annotate(**attributes: Any) -> None:
    """Adds attributes to the current span, where there is one."""
    if is_tracing():
        from opentelemetry import trace

        trace.get_current_span().set_attributes(attributes)


def event(name: str, **attributes: Any) -> None:
    """Adds an event to the current span, where there is one."""
    if is_tracing():
        from opentelemetry import trace

        trace.get_current_span().add_event(name, attributes)


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """A span of what is done inside, a child of the current one."""
    if not is_tracing():
        yield
        return
    from opentelemetry import trace

    with trace.get_tracer(__name__).start_as_current_span(name, attributes=attributes):
        yield


def log_to(handler: logging.Handler) -> None:
    """Sends every log line, DBOS's included, to one handler, once each."""
    handler.addFilter(_CollectorNotice())
    logging.basicConfig(handlers=[handler], level=settings.log_level(), force=True)
    dbos = logging.getLogger("dbos")
    # Given a handler and told not to propagate, or DBOS adds a handler of its own.
    dbos.handlers = [handler]
    dbos.propagate = False
    dbos.filters = [_Seldom()]
    for name in QUIET:
        logging.getLogger(name).setLevel(quiet_level())


def quieten() -> None:
    """Lets only warnings and errors through, for as long as the process lasts."""
    logging.getLogger().setLevel(logging.WARNING)


def quiet_level() -> str:
    """Of other people's loggers: what they do is of interest only when ours is looked into."""
    level = settings.log_level()
    return "WARNING" if level == "INFO" else level


def json_handler() -> logging.Handler:
    """Structured lines on standard error."""
    from pythonjsonlogger.json import JsonFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_context)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    return handler


def is_tracing() -> bool:
    """Whether the standard variables ask for spans."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER")
    return exporter == "console" or (_has_endpoint() and exporter != "none")


def start_tracing() -> None:
    """Sets the global tracer provider, as the standard variables say; nothing where they don't."""
    if is_tracing():
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        # DBOS looks for a logger provider too, and has words for there being none.
        logging.getLogger("dbos").addFilter(lambda line: "logger provider" not in line.msg)
        provider = TracerProvider(resource=_resource(), id_generator=_ids())
        provider.add_span_processor(_processor())
        trace.set_tracer_provider(provider)


def stop_tracing() -> None:
    """Sends what is still to be sent, within EXPORT_SECONDS."""
    if is_tracing():
        from opentelemetry import trace

        provider: Any = trace.get_tracer_provider()
        # In a thread: the exporter keeps trying for longer than it is told to.
        flush = threading.Thread(target=provider.force_flush, daemon=True)
        flush.start()
        flush.join(EXPORT_SECONDS)


def import_context(import_id: str, attempt: int) -> "Context | None":
    """The context of an attempt's root span; None where nothing is traced.

    The ids are made of the import's, so that every process joins one trace, and every attempt
    the same one, without having been told.
    """
    if not is_tracing():
        return None
    from opentelemetry import trace

    trace_id, span_id = _root_ids(import_id, attempt)
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    root = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


@contextmanager
def in_import(import_id: str, attempt: int) -> Iterator[None]:
    """Makes an attempt's root span the parent of what is started inside, in this process or not."""
    context = import_context(import_id, attempt)
    if context is None:
        yield
        return
    from dbos import PropagateOtelContext
    from opentelemetry.context import attach, detach

    token = attach(context)
    try:
        with PropagateOtelContext():
            yield
    finally:
        detach(token)


def export_root(
    import_id: str, attempt: int, start: datetime, end: datetime, **attributes: Any
) -> None:
    """Sends an attempt's root span, which no process held open: that one might have died."""
    if not is_tracing():
        return
    from opentelemetry import context, trace

    token = ROOT.set(_root_ids(import_id, attempt))
    try:
        root = trace.get_tracer(__name__).start_span(
            "import",
            context=context.Context(),
            start_time=_nanoseconds(start),
            attributes={"import.id": import_id, "import.attempt": attempt, **attributes},
        )
    finally:
        ROOT.reset(token)
    root.end(_nanoseconds(end))


def _has_endpoint() -> bool:
    return bool(
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


class _Seldom(logging.Filter):
    """Lets a line through once in REPEAT_SECONDS, without the statement that it quotes.

    In an outage DBOS says the same of every queue, at every poll, of which there are 20 a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().partition("\n")[0], None
        last = self._said_at.get(record.msg)
        if last is not None and record.created - last < REPEAT_SECONDS:
            return False
        self._said_at[record.msg] = record.created
        return True


class _CollectorNotice(logging.Filter):
    """Says once that spans can't be sent, in place of every word of OpenTelemetry on it."""

    def __init__(self) -> None:
        super().__init__()
        self._is_said = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not record.name.startswith("opentelemetry."):
            return True
        record.msg = f"Traces are not sent; the work goes on without them. {record.getMessage()}"
        record.args, record.exc_info, record.exc_text = None, None, None
        is_said, self._is_said = self._is_said, True
        return not is_said


def _add_context(record: logging.LogRecord) -> bool:
    record.__dict__["import"] = IMPORT.get()
    record.chunk = CHUNK.get()
    if is_tracing():
        from opentelemetry import trace

        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
    return True


def _processor() -> Any:
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SimpleSpanProcessor,
    )

    if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {"service.name": os.environ.get("OTEL_SERVICE_NAME", settings.APPLICATION_NAME)}
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)


def _root_ids(import_id: str, attempt: int) -> tuple[int, int]:
    trace_id = hashlib.sha256(import_id.encode()).digest()[:16]
    span_id = hashlib.sha256(f"{import_id}.{attempt}".encode()).digest()[:8]
    return int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ones, but for a root span."""

        def generate_trace_id(self) -> int:
            root = ROOT.get()
            return super().generate_trace_id() if root is None else root[0]

        def generate_span_id(self) -> int:
            root = ROOT.get()
            return super().generate_span_id() if root is None else root[1]

    return Ids()
