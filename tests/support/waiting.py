"""Waiting for what another process or thread brings about: by looking, never by a fixed pause."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.01


def until(look: Callable[[], T], what: str, seconds: float = 60) -> T:
    """The first true answer of `look`. Fails, naming `what`, when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: did not happen in {seconds:g} s")
        time.sleep(LOOK_SECONDS)
    return answer
