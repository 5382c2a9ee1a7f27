"""Serves the stand-in to other processes, until SIGTERM or SIGINT."""

import signal
import threading
from typing import Annotated

import typer

from tests.standin.faults import BY_NAME
from tests.standin.rate_limit import RateLimit
from tests.standin.server import Standin


def main(
    port: Annotated[int, typer.Option(help="0 for a free one.")] = 0,
    rate_limit: Annotated[int, typer.Option(help="Users in a window; 0 for no limit.")] = 20_000,
    window: Annotated[float, typer.Option(help="Seconds.")] = 300.0,
    cached_pages: Annotated[int, typer.Option(help="Encoded answers kept in memory.")] = 4,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:COUNT]", help=f"Repeatable. NAME: {', '.join(BY_NAME)}."),
    ] = None,
) -> None:
    """Stand in for randomuser.me on loopback; the first line printed is the address.

    Example: python -m tests.standin --rate-limit 0 --fault status-502:3
    """
    api = Standin(
        port=port, rate_limit=RateLimit(rate_limit or None, window), cached_pages=cached_pages
    )
    for text in fault or ():
        _script(api, text)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        api.start()
    except OSError as error:
        raise typer.BadParameter(
            f"{port}: {error.strerror}; name another, and RANDOMUSER_URL to match",
            param_hint="--port",
        ) from None
    try:
        print(api.url, flush=True)
        stopped.wait()
    finally:
        api.stop()


def _script(api: Standin, text: str) -> None:
    name, _, count = text.partition(":")
    if name not in BY_NAME:
        raise typer.BadParameter(f"no fault {name!r}; there are {', '.join(BY_NAME)}")
    if count and not count.isdecimal():
        raise typer.BadParameter(f"{count!r} is no count; write {name}:3 for three requests")
    api.script(BY_NAME[name], times=int(count or 1))


if __name__ == "__main__":
    typer.run(main)
