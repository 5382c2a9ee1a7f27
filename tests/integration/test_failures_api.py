"""Every way in which an answer can fail: waited for, or refused, and never taken wrongly."""

import logging
import re
from collections.abc import Iterator, Mapping

import pytest

import client
from randomuser import SOURCE
from source import Page, Query, SourceError
from tests.standin import Standin
from tests.standin.faults import (
    CloseInBody,
    Drip,
    DripGzip,
    DripHead,
    EndlessBody,
    Fault,
    GzipBomb,
    Hang,
    HangAfterHeader,
    HtmlError,
    InvalidJson,
    JsonError,
    MoreUsers,
    OneUser,
    TooManyRequests,
    WrongPage,
    WrongSeed,
)
from tests.standin.rate_limit import RateLimit

PATIENCE_SECONDS = 1
ATTEMPT_SECONDS = 3
"""Enough for an answer that does not drip, on a busy machine too."""

PASSING: Mapping[str, tuple[Fault, str]] = {
    "hangs, then closes": (Hang(0.5), "closed"),
    "hangs after the header": (HangAfterHeader(0.5), "IncompleteRead"),
    "closes in the body": (CloseInBody(), "IncompleteRead"),
    "500": (HtmlError(500), "500"),
    "502 with a page": (HtmlError(502), "502"),
    "500 of the service's own": (JsonError(500), "500"),
    "200 with an error": (JsonError(200), "something has gone wrong"),
    "429": (TooManyRequests(), "429"),
    "429 with Retry-After": (TooManyRequests(1), "429"),
    "invalid JSON": (InvalidJson(), "JSON"),
    "another page": (WrongPage(), "page 2"),
    "another seed": (WrongSeed(), "seed 0123456789abcdef"),
    "one user": (OneUser(), "1 users"),
    "more users": (MoreUsers(), "61 sent"),
    "an endless body": (EndlessBody(), "over 67,108,864 bytes"),
    "a gzip bomb": (GzipBomb(128), "over 67,108,864 bytes"),
}
"""Faults, and what the wait for their end has to say of them."""

DRIPPING: Mapping[str, Fault] = {"body": Drip(), "head": DripHead(), "gzip header": DripGzip()}


@pytest.fixture
def short_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPT_SECONDS", ATTEMPT_SECONDS)


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin(rate_limit=RateLimit(users=None)) as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Standin:
    running.clear_script()
    return running


def fetch(standin: Standin) -> Page:
    return SOURCE.fetch(Query(standin.url, 60, {"seed": "faults"}), SOURCE.first_cursor)


@pytest.mark.parametrize(("fault", "reason"), PASSING.values(), ids=PASSING.keys())
def test_fault_that_passes_is_waited_for(
    standin: Standin, fault: Fault, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_waited_for(standin, fault, reason, caplog)


@pytest.mark.parametrize(("fault", "reason"), PASSING.values(), ids=PASSING.keys())
def test_fault_that_lasts_is_an_error_in_bounded_time(
    standin: Standin, fault: Fault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORT_PATIENCE", str(PATIENCE_SECONDS))
    standin.script(fault, times=None)

    with pytest.raises(SourceError, match=re.escape(reason)):
        fetch(standin)


@pytest.mark.usefixtures("short_attempts")
@pytest.mark.parametrize("fault", DRIPPING.values(), ids=DRIPPING.keys())
def test_answer_that_drips_is_left_and_asked_for_again(
    standin: Standin, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    assert_waited_for(standin, fault, f"no whole answer in {ATTEMPT_SECONDS} s", caplog)


def assert_waited_for(
    standin: Standin, fault: Fault, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tells of one wait, with its reason, and then gets the right answer."""
    right = fetch(standin)
    standin.script(fault)

    with caplog.at_level(logging.WARNING):
        assert fetch(standin).records == right.records

    [wait] = [record for record in caplog.records if getattr(record, "waiting", False)]
    assert reason in wait.getMessage()
    assert " s" in wait.getMessage()


def test_retry_after_is_obeyed(standin: Standin) -> None:
    standin.script(TooManyRequests(2))
    fetch(standin)
    first, second = standin.requests[-2:]
    assert second.at - first.at >= 2


def test_wrong_answers_alone_are_counted(standin: Standin) -> None:
    right = fetch(standin)
    for fault in (HtmlError(503), HtmlError(503), WrongPage(), WrongPage()):
        standin.script(fault)

    assert fetch(standin).records == right.records


def test_third_wrong_answer_is_the_last(standin: Standin) -> None:
    asked = len(standin.requests)
    for fault in (WrongPage(), HtmlError(503), WrongPage(), HtmlError(503)):
        standin.script(fault)
    standin.script(WrongPage(), times=None)

    with pytest.raises(SourceError, match="page 2"):
        fetch(standin)
    assert len(standin.requests) - asked == 5
