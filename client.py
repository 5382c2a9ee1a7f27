"""HTTP with patience: asks until the answer is good, within a bounded time and a bounded size."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import tenacity

from source import SourceError

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of an answer, unpacked. No more is ever read: a page of 5,000 users has 5.4 MB."""

ATTEMPT_SECONDS = 120
"""For one answer, from the request to its last byte."""

READ_BYTES = 64 * 1024

DEFAULT_PATIENCE_SECONDS = 900
"""For all attempts at one answer: longer than the API's five-minute window of requests."""

WRONG_ANSWER_ATTEMPTS = 3

T = TypeVar("T")


class Unavailable(SourceError):
    """The API did not answer, or answered that it can't: later it may."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WrongAnswer(SourceError):
    """The API answered something else than was asked: asking on hardly helps."""


def patience() -> float:
    """Seconds to keep asking for one answer (`IMPORT_PATIENCE`)."""
    return float(os.environ.get("IMPORT_PATIENCE") or DEFAULT_PATIENCE_SECONDS)


def get(url: str, parameters: Mapping[str, str], parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of the answer's body.

    Asks again with growing, jittered waits while the API is away, overloaded (429, with its
    Retry-After where it sends one) or failing, for `patience()` seconds, and until the third answer
    that `parse` refuses with WrongAnswer. Each wait is logged with its reason.
    Raises SourceError when that is over, or at once for a request that the API refuses (4xx).
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((Unavailable, WrongAnswer)),
        wait=_wait,
        stop=_stop(patience()),
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(lambda: parse(_body(url, parameters)))


def decode(decoder: msgspec.json.Decoder[T], body: bytes, api: str) -> T:
    """The answer in a body. Raises Unavailable for no valid JSON, such as the page of a proxy in
    front of a failing API, and WrongAnswer for JSON of another shape.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise WrongAnswer(f"that JSON is no answer of {api}: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unavailable(f"no valid JSON: {error}") from None


def _body(url: str, parameters: Mapping[str, str]) -> bytes:
    # In a thread, which can be left behind: the timeout of `requests` begins anew at each byte, so
    # a server that drips the head of its answer would be listened to for as long as it likes.
    answer: Future[bytes] = Future()
    asking = threading.Thread(target=_ask, args=(url, parameters, answer), daemon=True)
    asking.start()
    try:
        return answer.result(ATTEMPT_SECONDS)
    except TimeoutError:
        raise _late(url) from None


def _ask(url: str, parameters: Mapping[str, str], answer: Future[bytes]) -> None:
    try:
        answer.set_result(_answer(url, parameters))
    except BaseException as error:  # noqa: BLE001 (whoever waits for the answer raises it)
        answer.set_exception(error)


def _answer(url: str, parameters: Mapping[str, str]) -> bytes:
    # Imported here: it costs a tenth of a second, and whoever loads chunks never asks.
    import requests
    import urllib3

    deadline = time.monotonic() + ATTEMPT_SECONDS
    try:
        with requests.get(url, params=parameters, stream=True, timeout=(10, 30)) as response:
            _check_status(response)
            return _read(response, deadline)
    except requests.exceptions.InvalidURL as error:
        raise SourceError(f"{url} is no address: {error}") from error
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
        raise SourceError(f"{url} is no http(s) address: {error}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Unavailable(f"{url}: {_cause(error)}") from error


def _check_status(response: "requests.Response") -> None:
    status, url = response.status_code, response.url
    if status in {408, 429} or status >= 500:
        raise Unavailable(f"{url}: answered {status} {response.reason}", _retry_after(response))
    if status != 200:
        raise SourceError(f"{url}: answered {status} {response.reason}")


def _retry_after(response: "requests.Response") -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _read(response: "requests.Response", deadline: float) -> bytes:
    parts, size = [], 0
    # What has arrived, each time: `iter_content` waits for all that it is asked for.
    while part := response.raw.read1(READ_BYTES, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise WrongAnswer(f"{response.url}: the answer is over {MAX_ANSWER_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise _late(response.url)
    return b"".join(parts)


def _late(url: str) -> Unavailable:
    return Unavailable(f"{url}: no whole answer in {ATTEMPT_SECONDS} s")


def _cause(error: BaseException) -> str:
    """The innermost reason, without the addresses of objects that requests wraps around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Unavailable) else None
    backoff = tenacity.wait_random_exponential(multiplier=0.5, min=0.2, max=60)
    return backoff(state) if asked is None else asked


def _stop(seconds: float) -> Callable[[tenacity.RetryCallState], bool]:
    wrong_answers = 0

    def stop(state: tenacity.RetryCallState) -> bool:
        nonlocal wrong_answers
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, WrongAnswer):
            # Not all attempts: an API that was away before may still answer rightly.
            wrong_answers += 1
            return wrong_answers >= WRONG_ANSWER_ATTEMPTS
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > seconds

    return stop


def _tell(state: tenacity.RetryCallState) -> None:
    error: Any = state.outcome.exception() if state.outcome else None
    log.warning(
        "%s; trying again in %.1f s, for %.0f s in all at most",
        error,
        state.upcoming_sleep,
        patience(),
        extra={"waiting": True, "seconds": round(state.upcoming_sleep, 1)},
    )
