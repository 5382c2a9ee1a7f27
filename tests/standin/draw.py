"""Random choices that are the same in every process and release of Python."""

import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")


class Draw(random.Random):
    """Uses no more of `random.Random` than seeding by text, `random()` and `getrandbits()`.

    Python guarantees these to stay; how `choice` and `randint` use them has changed before.
    """

    def pick(self, pool: Sequence[T]) -> T:
        return pool[int(self.random() * len(pool))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random() * (high - low + 1))


@dataclass(frozen=True)
class Template:
    """A pattern of digits, letters and a date of birth; nations.toml says how it is written."""

    layout: str
    bounds: tuple[int, ...]
    """Of each run of digits: the first number that has too many."""

    letters: int

    @classmethod
    def of(cls, pattern: str) -> "Template":
        runs = [len(run) for run in re.findall("#+", pattern)]
        layout = pattern.replace("?", "{}")
        for index, length in enumerate(runs):
            layout = re.sub("#+", f"{{digits[{index}]:0{length}}}", layout, count=1)
        return cls(layout, tuple(10**length for length in runs), pattern.count("?"))

    def fill(self, draw: Draw, born: datetime) -> str:
        digits = [int(draw.random() * bound) for bound in self.bounds]
        letters = [draw.pick(string.ascii_uppercase) for _ in range(self.letters)]
        return self.layout.format(*letters, digits=digits, born=born)
