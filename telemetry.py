"""Logs as JSON lines and spans over OTLP: one trace for each import, whoever works on it."""

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import settings

if TYPE_CHECKING:
    from opentelemetry.context import Context

IMPORT: ContextVar[str | None] = ContextVar("import", default=None)
CHUNK: ContextVar[int | None] = ContextVar("chunk", default=None)

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


def log_to(handler: logging.Handler) -> None:
    """Sends every log line, DBOS's included, to one handler, once each."""
    logging.basicConfig(handlers=[handler], level=settings.log_level(), force=True)
    dbos = logging.getLogger("dbos")
    # Given a handler and told not to propagate, or DBOS adds a handler of its own.
    dbos.handlers = [handler]
    dbos.propagate = False
    dbos.filters = [_Seldom()]
    for name in QUIET:
        logging.getLogger(name).setLevel(quiet_level())


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

        provider = TracerProvider(resource=_resource())
        provider.add_span_processor(_processor())
        trace.set_tracer_provider(provider)


def stop_tracing() -> None:
    """Sends what is still to be sent, within EXPORT_SECONDS."""
    if is_tracing():
        from opentelemetry import trace

        provider: Any = trace.get_tracer_provider()
        provider.force_flush(EXPORT_SECONDS * 1000)


def import_context(import_id: str) -> "Context | None":
    """The context of an import's root span: its ids are made of the import's, so that every
    process, and every attempt, joins one trace without having been told.
    """
    if not is_tracing():
        return None
    from opentelemetry import trace

    trace_id, span_id = _ids(import_id)
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    root = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


@contextmanager
def in_import(import_id: str) -> Iterator[None]:
    """Makes the import's root span the parent of what is started inside, in this process or not."""
    context = import_context(import_id)
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


def export_root(import_id: str, start_ns: int, end_ns: int, attributes: dict[str, Any]) -> None:
    """Sends the import's root span, which no process held open."""
    if not is_tracing():
        return
    from opentelemetry import context
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(id_generator=_fixed_ids(import_id), resource=_resource())
    provider.add_span_processor(_processor())
    span = provider.get_tracer(__name__).start_span(
        "import", context=context.Context(), start_time=start_ns, attributes=attributes
    )
    span.end(end_ns)
    provider.force_flush(EXPORT_SECONDS * 1000)
    provider.shutdown()


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


def _ids(import_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(import_id.encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


def _fixed_ids(import_id: str) -> Any:
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class RootIds(IdGenerator):
        def generate_trace_id(self) -> int:
            return _ids(import_id)[0]

        def generate_span_id(self) -> int:
            return _ids(import_id)[1]

    return RootIds()
