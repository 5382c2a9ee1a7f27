"""A stand-in for randomuser.me on loopback: same addresses, answers, limits and failures.

    with Standin() as api:
        api.script(faults.HtmlError(502), times=2)
        fetch(api.url)
        assert len(api.requests) == 3

Its users are synthetic, and the same ones for the same seed, page and nationalities wherever and
whenever it runs. `python -m tests.standin` serves them to other processes.
"""

from tests.standin.server import Standin

__all__ = ["Standin"]
