"""Records decoded one by one, each fault in them told with the field that has it."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from source import RecordError

T = TypeVar("T")

_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")


def decode(decoder: msgspec.json.Decoder[T], record: bytes, path: str = "$") -> T:
    """What a decoder makes of a record, or of the part of one that stands at `path`.

    Raises RecordError for another shape, for what is no valid JSON, and for U+0000 in a text, which
    PostgreSQL can't store.
    """
    try:
        decoded = decoder.decode(record)
    except msgspec.ValidationError as error:
        raise _invalid(error, path) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(record, error, path) from None
    # The first look is ten times as quick, and most records end with it.
    if b"\\" in record and b"\\u0000" in record:
        _refuse_nul(decoded, path)
    return decoded


def decode_if_whole(decoder: msgspec.json.Decoder[T], record: bytes) -> T | None:
    """What a decoder makes of a record, or None where it can't."""
    try:
        return decoder.decode(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _invalid(error: msgspec.ValidationError, within: str) -> RecordError:
    detail, _, place = str(error).partition(" - at `")
    path = within + place.removesuffix("`").removeprefix("$")
    if missing := _MISSING.match(detail):
        path = f"{path}.{missing['field']}"
    return RecordError(path, detail)


def _malformed(record: bytes, error: Exception, within: str) -> RecordError:
    """Names the field where more lenient readers than ours still find one."""
    try:
        lenient = json.loads(record)
    except (ValueError, RecursionError):
        detail = "nested too deep" if isinstance(error, RecursionError) else str(error)
        return RecordError(within, detail)
    for path, value in _leaves(lenient, within):
        if isinstance(value, float) and not math.isfinite(value):
            return RecordError(path, "Expected a finite number")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            return RecordError(path, "Expected text, got half of a surrogate pair")
    return RecordError(within, str(error))


def _refuse_nul(decoded: object, within: str) -> None:
    # A part left as text (msgspec.Raw) is decoded, and looked at, on its own.
    for path, value in _leaves(msgspec.to_builtins(decoded, enc_hook=lambda _: None), within):
        if isinstance(value, str) and "\0" in value:
            raise RecordError(path, "Expected text without U+0000, which PostgreSQL can't store")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    # Without recursion, for a reader may follow more levels than Python has frames for.
    waiting = [(path, value)]
    while waiting:
        place, found = waiting.pop()
        if isinstance(found, dict):
            waiting += reversed([(f"{place}.{key}", inner) for key, inner in found.items()])
        elif isinstance(found, list):
            waiting += reversed([(f"{place}[{at}]", inner) for at, inner in enumerate(found)])
        else:
            yield place, found
