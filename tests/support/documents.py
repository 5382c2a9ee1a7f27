"""The commands in the documents, with what they are said to print."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w*)$")
NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")

ANYTHING = "…"
"""Stands for any text within a line, and on a line of its own for any lines, or none."""

ANY_LINES = r"(?:.*\n)*?"


@dataclass(frozen=True)
class Command:
    """A command, and the lines under it: all that it prints."""

    text: str
    expected: tuple[str, ...]

    def explains(self, output: str) -> bool:
        """Whether the output is the expected one; how many spaces there are does not count."""
        lines = map(_single_spaced, output.strip("\n").splitlines())
        text = "".join(f"{line}\n" for line in lines)
        return re.fullmatch("".join(map(_pattern, self.expected)), text) is not None

    def with_texts(self, instead: Mapping[str, str]) -> "Command":
        """The same with other texts, such as free ports for those of the document."""

        def replaced(text: str) -> str:
            for old, new in instead.items():
                text = text.replace(old, new)
            return text

        return Command(replaced(self.text), tuple(map(replaced, self.expected)))

    @property
    def runs_on(self) -> bool:
        """Whether it goes on in the background, while it may still have something to print."""
        return self.text.endswith("&")

    def __str__(self) -> str:
        return "\n".join((f"$ {self.text}", *self.expected))


@dataclass(frozen=True)
class Block:
    """A fenced block of a document. `reason` tells why a test can't run it, where it can't."""

    language: str
    lines: tuple[str, ...]
    reason: str | None

    def commands(self) -> Iterator[Command]:
        """Its commands, each from its `$ ` on; `> ` goes on with a command, as a shell has it."""
        text: str | None = None
        expected: list[str] = []
        for line in self.lines:
            if line.startswith("$ "):
                if text is not None:
                    yield Command(text, tuple(expected))
                text, expected = line[2:], []
            elif line.startswith("> ") and not expected:
                text = f"{text}\n{line[2:]}"
            else:
                expected.append(line)
        if text is not None:
            yield Command(text, tuple(expected))


def blocks(document: Path) -> Iterator[Block]:
    """All fenced blocks of a Markdown file, in order."""
    lines = iter(document.read_text(encoding="utf-8").splitlines())
    reason: str | None = None
    for line in lines:
        if (fence := FENCE.match(line)) is not None:
            content = tuple(iter(lambda: next(lines), "```"))
            yield Block(fence["language"], content, reason)
        marked = NOT_RUN.match(line)
        reason = marked["reason"] if marked else None


def _pattern(line: str) -> str:
    if line.strip() == ANYTHING:
        return ANY_LINES
    return ".*".join(map(re.escape, _single_spaced(line).split(ANYTHING))) + r"\n"


def _single_spaced(line: str) -> str:
    return re.sub(" +", " ", line).rstrip()
