"""All rounds together, and the table that they are shown in."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from chaos.plan import Kind
from chaos.rounds import Outcome

SIGKILLS = (
    Kind.KILL_STARTER,
    Kind.KILL_WORKER,
    Kind.KILL_ALL,
    Kind.KILL_POSTMASTER,
    Kind.KILL_BACKEND,
)


@dataclass
class Tally:
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def injected(self) -> Counter[Kind]:
        return sum((outcome.injected for outcome in self.outcomes), Counter[Kind]())

    @property
    def sigkills(self) -> int:
        injected = self.injected
        return sum(injected[kind] for kind in SIGKILLS)

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.violations]

    def show(self, console: Console) -> None:
        table = Table("what", "figure", title="Chaos")
        table.columns[1].justify = "right"
        for kind in Kind:
            table.add_row(kind.value, f"{self.injected[kind]:,}")
        table.add_section()
        for name, figure in self._figures().items():
            table.add_row(name, figure)
        console.print(table)

    def _figures(self) -> dict[str, str]:
        outcomes = self.outcomes
        recoveries = [o.recovery_seconds for o in outcomes if o.recovery_seconds is not None]
        return {
            "rounds": f"{len(outcomes):,}",
            "SIGKILLs in all": f"{self.sigkills:,}",
            "faults that came too late": f"{sum(o.too_late for o in outcomes):,}",
            "takeovers of chunks": f"{sum(o.takeovers for o in outcomes):,}",
            "imports started again for chunks given up": f"{sum(o.given_up for o in outcomes):,}",
            "processes that ended by themselves": f"{sum(len(o.endings) for o in outcomes):,}",
            "users checked": f"{sum(o.users for o in outcomes):,}",
            "lost": f"{sum(o.findings.lost for o in outcomes):,}",
            "doubled": f"{sum(o.findings.doubled for o in outcomes):,}",
            "rounds with a violation": f"{len(self.failed):,}",
            "seconds to recover, median": f"{median(recoveries):.1f}" if recoveries else "-",
            "seconds to recover, worst": f"{max(recoveries):.1f}" if recoveries else "-",
        }
