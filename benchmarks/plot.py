"""The results as one picture: speed by contender; time and memory by the number of users.

python -m benchmarks.plot FOLDER: draws FOLDER/results.json as FOLDER/results.svg
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.contender import CONTENDERS, GROWING
from benchmarks.results import Results, Spread, Trial, of

OURS, OTHERS = "#1b6ca8", "#9aa5b1"


def draw(results: Results, path: Path) -> None:
    """Writes an SVG, the same one for the same results."""
    mpl.rcParams["svg.hashsalt"] = "benchmark"
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplot_mosaic([["speed", "speed"], ["time", "memory"]], height_ratios=[3, 2])
    _speeds(axes["speed"], results)
    _times(axes["time"], results.growth)
    _memory(axes["memory"], results.growth)
    figure.savefig(path, metadata={"Date": None})


def _speeds(axes: Axes, results: Results) -> None:
    ordered = sorted(
        CONTENDERS, key=lambda contender: _speed(results.throughput, contender.name).median
    )
    for place, contender in enumerate(ordered):
        speed = _speed(results.throughput, contender.name)
        error = [[speed.median - speed.low], [speed.high - speed.median]]
        axes.barh(place, speed.median, xerr=error, color=OURS if contender.is_ours else OTHERS)
        axes.annotate(
            f" {speed.median:,.0f}", (speed.high, place), va="center", ha="left", fontsize=8
        )
    axes.set_yticks(range(len(ordered)), [contender.name for contender in ordered])
    axes.set_xlabel(f"users a second, {results.users:,} users (work; median, lowest to highest)")
    axes.spines[["top", "right"]].set_visible(False)


def _times(axes: Axes, trials: Sequence[Trial]) -> None:
    for contender in GROWING:
        own = of(trials, contender.name)
        figures = [trial.microseconds_per_user for trial in own]
        axes.plot([trial.users for trial in own], figures, marker="o", label=_short(contender.name))
    _by_users(axes, trials, "µs per user")


def _memory(axes: Axes, trials: Sequence[Trial]) -> None:
    for contender in GROWING:
        own = of(trials, contender.name)
        users = [trial.users for trial in own]
        [line] = axes.plot(
            users, [trial.peak_mb for trial in own], marker="o", label=_short(contender.name)
        )
        worker = [trial.worker_peak_mb or 0 for trial in own]
        axes.plot(users, worker, marker="x", linestyle="dashed", color=line.get_color())
    _by_users(axes, trials, "peak MiB (dashed: of the worker)")
    axes.legend(fontsize=7)


def _by_users(axes: Axes, trials: Sequence[Trial], label: str) -> None:
    users = sorted({trial.users for trial in trials})
    axes.set_xscale("log")
    axes.set_xticks(users, [f"{count:,}" for count in users])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("users")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def _speed(trials: Sequence[Trial], contender: str) -> Spread:
    return Spread.of([trial.speed for trial in of(trials, contender)])


def _short(name: str) -> str:
    return name.removeprefix("ours, ").replace("two processes, ", "").replace("two workers, ", "")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw(
        msgspec.json.decode((folder / "results.json").read_bytes(), type=Results),
        folder / "results.svg",
    )
