"""The results as Markdown tables."""

from collections.abc import Iterator, Sequence

from benchmarks.contender import CONTENDERS, COPY_LIMIT
from benchmarks.results import Results, Spread, Storage, Target, Trial, of, ratio


def markdown(results: Results) -> str:
    """All of it, for a person."""
    return "\n".join(_lines(results))


def summary(results: Results) -> str:
    """What the README shows of it."""
    machine = ", ".join(results.machine.values())
    return "\n".join(
        [
            f"`{results.command}` on {results.taken_at}: {machine}.",
            f"{results.users:,} users, medians of {results.rounds} rounds;",
            "all of it in [benchmarks/results.md](benchmarks/results.md).",
            "",
            *_throughput(results.throughput),
            "",
            "![Users a second by contender; time and memory by users](benchmarks/results.svg)",
            "",
            *_targets(results.targets),
        ]
    )


def _lines(results: Results) -> Iterator[str]:
    machine = ", ".join(results.machine.values())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield "# Benchmark"
    yield f"\nBy `{results.command}` on {results.taken_at}, commit {results.commit}: {machine}."
    yield f"{versions}.\n"
    yield f"## {results.users:,} users, medians of {results.rounds} rounds (lowest to highest)\n"
    yield from _throughput(results.throughput)
    yield "\nWork: from the first record to the last commit. Whole: from exec to exit."
    yield "The peak is of the importing process, then of its worker.\n"
    yield "## Targets\n"
    yield from _targets(results.targets)
    yield "\n## As the number of users grows\n"
    yield from _growth(results.growth)
    yield f"\n## A command of {results.short_command[0].users:,} users, tables there\n"
    yield from _times(results.short_command)
    yield "\n## Tracing\n"
    yield from _times(results.tracing)
    for storage in results.storage:
        yield f"\n## What PostgreSQL wrote: {storage.contender}, {storage.users:,} users\n"
        yield from _storage(storage)
    yield "\n## After a kill −9 and the same command once more\n"
    yield "| contender | the table holds |\n|---|---|"
    yield from (f"| {contender.name} | {contender.after_a_kill} |" for contender in CONTENDERS)
    yield ""


def _throughput(trials: Sequence[Trial]) -> Iterator[str]:
    yield "| contender | users/s, work | of the limit | users/s, whole | CPU s | peak MiB |"
    yield "|---|---|---|---|---|---|"
    limit = of(trials, COPY_LIMIT.name)
    for contender in CONTENDERS:
        own = of(trials, contender.name)
        share = ratio(own, limit, lambda trial: trial.speed)
        yield (
            f"| {contender.name} | {_spread([trial.speed for trial in own])} | {share.median:.3f} "
            f"| {_spread([trial.whole_speed for trial in own])} "
            f"| {Spread.of([trial.cpu_seconds for trial in own]).median:.1f} | {_peaks(own)} |"
        )


def _targets(targets: Sequence[Target]) -> Iterator[str]:
    yield "| figure | wanted | measured | met |\n|---|---|---|---|"
    for target in targets:
        wanted = f"≥ {target.at_least:g}" if target.at_least else f"≤ {target.at_most:g}"
        measured = target.measured
        spread = f"{measured.median:.2f} ({measured.low:.2f} to {measured.high:.2f})"
        yield f"| {target.name} | {wanted} | {spread} | {'yes' if target.is_met else 'no'} |"


def _growth(trials: Sequence[Trial]) -> Iterator[str]:
    yield "| contender | users | µs per user | peak MiB |\n|---|---|---|---|"
    for trial in trials:
        yield (
            f"| {trial.contender} | {trial.users:,} | {trial.microseconds_per_user:.1f} "
            f"| {_peaks([trial])} |"
        )


def _times(trials: Sequence[Trial]) -> Iterator[str]:
    yield "| contender | work, s | whole process, s |\n|---|---|---|"
    for name in dict.fromkeys(trial.contender for trial in trials):
        own = of(trials, name)
        work = Spread.of([trial.work_seconds for trial in own])
        whole = Spread.of([trial.whole_seconds for trial in own])
        yield (
            f"| {name} | {work.median:.2f} ({work.low:.2f} to {work.high:.2f}) "
            f"| {whole.median:.2f} ({whole.low:.2f} to {whole.high:.2f}) |"
        )


def _storage(storage: Storage) -> Iterator[str]:
    thousands = storage.users / 1000
    yield (
        f"Log: {storage.log_bytes / thousands / 1024:,.0f} KiB per 1,000 users. Processor time: "
        f"{storage.server_cpu_seconds / thousands * 1e3:,.0f} ms per 1,000 users in PostgreSQL, "
        f"{storage.client_cpu_seconds / thousands * 1e3:,.0f} ms in the importer.\n\n"
        "| table | KiB per 1,000 users | of the log | rows inserted | updated | deleted |\n"
        "|---|---|---|---|---|---|"
    )
    for table in storage.tables:
        yield (
            f"| {table.table} | {table.bytes / thousands / 1024:,.1f} "
            f"| {table.log_bytes / thousands / 1024:,.1f} "
            f"| {table.inserted:,} | {table.updated:,} | {table.deleted:,} |"
        )


def _spread(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.median:,.0f} ({spread.low:,.0f} to {spread.high:,.0f})"


def _peaks(trials: Sequence[Trial]) -> str:
    own = f"{max(trial.peak_mb for trial in trials):.0f}"
    helped = [trial.worker_peak_mb for trial in trials if trial.worker_peak_mb is not None]
    return f"{own}, {max(helped):.0f}" if helped else own
