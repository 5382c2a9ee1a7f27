"""A round from its beginning to its check."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checks import Findings, check
from chaos.crew import Crew, Ending, environment
from chaos.expectation import expect
from chaos.faults import inject
from chaos.plan import Fault, Kind, Phase, RoundPlan
from chaos.progress import Progress, Watch
from chaos.server import Server
from chaos.workload import Workload, offered
from postgres import PostgresError

POLL_SECONDS = 0.01
MOMENT_SECONDS = 30.0
"""A fault whose moment does not come by then is injected all the same."""

RECOVERY_SECONDS = 90.0
"""After the last fault; an import that is not complete by then hangs."""


class Hung(Exception):
    """Something did not come about in time."""


@dataclass
class Outcome:
    """What a round has come to.

    `injected` counts processes hit or connections cut, by kind; `too_late` the faults that found
    nothing left to hit. `recovery_seconds` are from the last fault that hit the import to its end.
    """

    plan: RoundPlan
    users: int = 0
    injected: Counter[Kind] = field(default_factory=Counter)
    too_late: int = 0
    recovery_seconds: float | None = None
    takeovers: int = 0
    given_up: int = 0
    endings: list[Ending] = field(default_factory=list)
    findings: Findings = field(default_factory=lambda: Findings(0, 0, []))
    harness_violations: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [*self.harness_violations, *self.findings.violations]


def play(plan: RoundPlan, server: Server, folder: Path) -> Outcome:
    """Plays a round in `folder`, where the processes' logs stay."""
    with offered(plan, folder) as workload, server.reached(proxied=plan.proxied) as address:
        server.renew_database(workload.known, migrated=not plan.migrates)
        variables = environment(folder, server.folder, {**workload.variables, **address})
        with Crew(folder, variables) as crew:
            return _Round(plan, workload, server, crew).play()


class _Round:
    def __init__(self, plan: RoundPlan, workload: Workload, server: Server, crew: Crew) -> None:
        self._plan = plan
        self._workload = workload
        self._server = server
        self._crew = crew
        self._watch = Watch(server, workload.chunks)
        self._outcome = Outcome(plan, users=len(workload.records))
        self._last_fault_at = time.monotonic()

    def play(self) -> Outcome:
        self._man()
        try:
            for fault in self._plan.faults:
                self._await_and_inject(fault)
            self._recover()
        except (Hung, PostgresError) as error:
            self._outcome.harness_violations.append(str(error))
        self._outcome.endings = self._crew.endings
        self._stop()
        self._check()
        return self._outcome

    def _man(self) -> None:
        plan = self._plan
        concurrency = ["--concurrency", str(plan.concurrency)]
        starter = [
            "import",
            *self._workload.options,
            *("--batch-size", str(plan.batch_size)),
            *("--chunk-size", str(plan.chunk_size)),
            *("--on-conflict", plan.on_conflict),
            *concurrency,
        ]
        for _ in range(plan.starters):
            self._crew.add("starter", starter)
        for _ in range(plan.workers):
            self._crew.add("worker", ["worker", *concurrency])

    def _await_and_inject(self, fault: Fault) -> None:
        deadline, progress = time.monotonic() + MOMENT_SECONDS, None
        while time.monotonic() < deadline:
            progress = self._tend()
            if progress is None:
                continue
            if progress.is_complete and fault.phase is not Phase.FINISHING:
                self._outcome.too_late += 1
                return
            if self._watch.has_come(fault, progress, self._crew.youngest_age):
                break
        time.sleep(fault.delay)
        done = inject(fault, self._crew, self._server)
        if not done:
            self._outcome.too_late += 1
            return
        self._outcome.injected[fault.kind] += done
        if progress is None or not progress.is_complete:
            self._last_fault_at = time.monotonic()

    def _recover(self) -> None:
        """Waits until the import is complete and everybody knows it: then nothing is left to do."""
        self._until(self._is_complete, "the import is not complete")
        self._outcome.recovery_seconds = time.monotonic() - self._last_fault_at
        for starter in self._crew.starters:
            starter.due = 0.0
        self._until(lambda: all(one.done for one in self._crew.starters), "a starter did not end")
        self._until(self._nobody_sleeps, "a process sleeps")

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        """Raises Hung."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise Hung(f"{otherwise} after {RECOVERY_SECONDS:.0f} s")
            self._tend()

    def _tend(self) -> Progress | None:
        self._server.tend()
        self._crew.tend()
        time.sleep(POLL_SECONDS)
        return self._watch.look()

    def _is_complete(self) -> bool:
        progress = self._watch.look()
        return progress is not None and progress.is_complete

    def _nobody_sleeps(self) -> bool:
        return not any(member.is_paused for member in self._crew.members)

    def _stop(self) -> None:
        self._watch.close()
        self._server.start()
        for member in self._crew.members:
            if member.is_paused:
                member.wake()
        for member in self._crew.stop():
            self._outcome.harness_violations.append(f"{member.name} did not stop when told to")

    def _check(self) -> None:
        expected = expect(self._plan, self._workload)
        with self._server.connect_for_check() as database:
            self._outcome.findings = check(database, expected)
            chunks = database.execute("SELECT sum(takeovers) AS takeovers FROM chunks").fetchone()
            attempts = database.execute("SELECT max(attempt) AS attempts FROM imports").fetchone()
        self._outcome.takeovers = int((chunks or {}).get("takeovers") or 0)
        self._outcome.given_up = int((attempts or {}).get("attempts") or 1) - 1
