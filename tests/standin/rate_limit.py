"""How many users a client may ask for."""

import threading
import time
from collections import Counter
from collections.abc import Callable


class RateLimit:
    """`users` for each client address in a window of `seconds`, which ends for all at once.

    Asking is refused once that many have been asked for: the request that reaches the limit still
    gets all of its users. None for no limit.
    """

    def __init__(
        self,
        users: int | None = 20_000,
        seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._seconds = seconds
        self._clock = clock
        self._began = clock()
        self._window = 0
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def allows(self, client: str, users: int) -> bool:
        """Whether the client gets these users, which then count."""
        with self._lock:
            self._reset_after_window()
            if self._users is not None and self._asked[client] >= self._users:
                return False
            self._asked[client] += users
            return True

    def _reset_after_window(self) -> None:
        window = int((self._clock() - self._began) // self._seconds)
        if window != self._window:
            self._window = window
            self._asked.clear()
