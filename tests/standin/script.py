"""Which requests fail, and how."""

import threading
from collections.abc import Collection
from dataclasses import dataclass

from tests.standin.faults import Fault


@dataclass
class _Entry:
    fault: Fault
    left: int | None
    pages: Collection[int] | None

    def concerns(self, page: int) -> bool:
        return self.left != 0 and (self.pages is None or page in self.pages)


class Script:
    """Faults in the order they were added; a request gets the first that concerns its page."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, times: int | None, pages: Collection[int] | None) -> None:
        with self._lock:
            self._entries.append(_Entry(fault, times, pages))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def take(self, page: int) -> Fault | None:
        """The fault for a request of this page, used up by one."""
        with self._lock:
            entry = next((entry for entry in self._entries if entry.concerns(page)), None)
            if entry is None:
                return None
            if entry.left is not None:
                entry.left -= 1
            return entry.fault
