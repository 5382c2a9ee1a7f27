"""Traces: what a collector gets of an import, and that none is needed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collector import Collector, Span, collecting
from tests.support.databases import Sql
from tests.support.programs import PROJECT, Importer
from tests.support.waiting import until

USERS = PROJECT / "data" / "data.json.200"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def test_import_is_one_trace(importer: Importer, collector: Collector) -> None:
    result = importer.run(
        "import", "--json", "--input", USERS, "--chunk-size", "50", env=collector.environment
    )
    spans = collector.spans()
    import_id = result.json()["import_id"]

    assert len({span.trace_id for span in spans}) == 1
    [root] = [span for span in spans if not span.parent_id]
    assert root.name == "import"
    assert root.attributes["import.imported"] == 200
    assert {span.parent_id for span in spans} - {span.span_id for span in spans} == {""}
    [page] = named(spans, "stage_page")
    assert (page.attributes["import.id"], page.attributes["import.page"]) == (import_id, 1)
    chunks = named(spans, "load_chunk")
    assert len(chunks) == 4
    assert sum(chunk.attributes["import.imported"] for chunk in chunks) == 200
    workflows = named(spans, "import_chunk")
    assert {span.parent_id for span in workflows} == {root.span_id}
    assert {span.attributes["import.chunk"] for span in workflows} == {0, 1, 2, 3}


def test_each_fetch_is_a_span(importer: Importer, api: object, collector: Collector) -> None:
    importer.run("import", "--seed", "one", "--count", "20", env=collector.environment)

    [fetch] = named(collector.spans(), "fetch_page")
    assert fetch.attributes["import.page"] == 1


def test_trace_goes_on_after_a_kill(importer: Importer, sql: Sql, collector: Collector) -> None:
    file = PROJECT / "data" / "data.json.1000"
    command = ["import", "--json", "--input", str(file), "--chunk-size", "20"]
    first = importer.spawn(*command, env=collector.environment)
    until(
        lambda: (
            sql.value("SELECT count(*) FROM chunks WHERE loaded_at IS NOT NULL") >= 3
            and named(collector.spans(), "import_chunk")
        ),
        "some chunks are loaded, and told of",
        seconds=90,
    )
    first.kill()
    before = collector.spans()
    result = importer.run(*command, env=collector.environment, timeout=120)
    spans = collector.spans()

    assert result.status == 0
    assert before
    assert len(spans) > len(before)
    assert len({span.trace_id for span in spans}) == 1
    assert [span.name for span in spans if not span.parent_id] == ["import"]
    takeovers = [event for span in named(spans, "take_over") for event in span.events]
    assert {event.name for event in takeovers} == {"takeover"}
    assert str(first.pid) in takeovers[0].attributes["takeover.from"]


def test_rejected_user_is_an_event_without_personal_data(
    importer: Importer, collector: Collector, tmp_path: Path
) -> None:
    users = json.loads(USERS.read_text())["results"][:20]
    users[7]["dob"]["age"] = "unknown"
    file = tmp_path / "users.jsonl"
    file.write_text("".join(json.dumps(user) + "\n" for user in users))
    importer.run("import", "--input", file, env=collector.environment)

    [chunk] = named(collector.spans(), "load_chunk")
    [event] = chunk.events
    assert event.name == "reject"
    assert event.attributes == {
        "import.position": 7,
        "reject.stage": "decode",
        "reject.field": "$.dob.age",
        "reject.reason": "Expected `int`, got `str`",
    }
    sent = b"".join(collector.bodies)
    for secret in (users[7]["email"], users[7]["login"]["uuid"], "unknown"):
        assert secret.encode() not in sent


def test_log_lines_of_a_chunk_lead_to_its_spans(importer: Importer, collector: Collector) -> None:
    result = importer.run(
        "import", "--input", USERS, env={**collector.environment, "LOG_LEVEL": "DEBUG"}
    )
    lines = [line for line in result.logs() if line.get("chunk") is not None]

    assert "loaded the chunk" in {line["message"] for line in lines}
    spans = {(span.trace_id, span.span_id) for span in collector.spans()}
    for line in lines:
        assert line["import"]
        assert (line["trace_id"], line["span_id"]) in spans


def test_a_collector_that_is_down_disturbs_nothing(importer: Importer) -> None:
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    result = importer.run("import", "--json", "--input", USERS, env=nowhere)

    assert result.status == 0
    assert result.json()["imported"] == 200
    warnings = [line for line in result.logs() if line["level"] != "INFO"]
    assert len(warnings) == 1
    assert warnings[0]["message"].startswith("Traces are not sent")


def test_spans_for_the_console_leave_standard_output_alone(importer: Importer) -> None:
    result = importer.run(
        "import", "--json", "--input", USERS, env={"OTEL_TRACES_EXPORTER": "console"}
    )

    assert [json.loads(line)["imported"] for line in result.stdout.splitlines()] == [200]
    assert '"name": "import"' in result.stderr


def test_without_the_variables_opentelemetry_is_not_set_up(importer: Importer) -> None:
    result = importer.run("import", "--input", USERS)

    assert "trace_id" not in result.stderr
