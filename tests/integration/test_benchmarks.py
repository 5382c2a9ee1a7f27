"""The benchmark: its contenders run, and rows that are wrong end it. How fast is not asked."""

import json
from pathlib import Path

import pytest

from benchmarks import data
from benchmarks.contender import CONTENDERS, DEFAULT, DEFAULT_TWO, TUNED_TWO, WITH_BAD, Contender
from benchmarks.processes import Failed, Programs
from benchmarks.results import Spread, Target, Trial, ratio
from benchmarks.trials import Laboratory, check_rows
from tests.support.databases import Server

USERS = 2_000

WITHOUT_PEERS = [
    contender
    for contender in CONTENDERS
    if contender.is_ours or contender.command[0] in {"copy_limit", "script"}
]
"""The others need the group `bench`: CI runs them by `make bench`."""


@pytest.fixture
def laboratory(server: Server, tmp_path: Path) -> Laboratory:
    return Laboratory(server, Programs(tmp_path), tmp_path)


@pytest.mark.parametrize("contender", WITHOUT_PEERS, ids=lambda contender: contender.name)
def test_a_contender_brings_in_every_user(laboratory: Laboratory, contender: Contender) -> None:
    trial = laboratory.trial(contender, USERS, 0)

    assert trial.users == USERS
    assert 0 < trial.work_seconds < trial.whole_seconds
    assert trial.peak_mb > 10
    assert (trial.worker_peak_mb is not None) == (contender.workers > 0)


def test_missing_rows_end_the_benchmark(laboratory: Laboratory) -> None:
    with laboratory.database() as url, pytest.raises(Failed, match="0 rows, 0 users; wanted 2000"):
        check_rows(url, DEFAULT, USERS)


def test_a_program_that_fails_ends_the_benchmark(laboratory: Laboratory) -> None:
    broken = Contender("broken", [*DEFAULT.command, "--no-such-option"], "")
    with laboratory.database() as url, pytest.raises(Failed, match="--no-such-option"):
        laboratory.run(broken, 20, 0, url)


def test_a_worker_that_fails_ends_the_benchmark(laboratory: Laboratory) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:9/nothing"
    with pytest.raises(Failed, match="can't be used"):
        laboratory.run(DEFAULT_TWO, 20, 0, nowhere)


@pytest.mark.parametrize(("bad", "wanted"), [(0, 0), (0.01, 10), (0.1, 100)])
def test_bad_users_are_as_many_as_asked_for(tmp_path: Path, bad: float, wanted: int) -> None:
    data.write(tmp_path / "users", 1_000, bad)
    users = [json.loads(line) for line in (tmp_path / "users").read_text().splitlines()]

    without_field = [user for user in users if "dob" not in user]
    refused = [user for user in users if user["login"]["username"] == data.REFUSED]

    assert len(users) == 1_000
    assert len(without_field) == len(refused) == wanted / 2
    assert data.bad_of(1_000, bad) == wanted


def test_ratios_are_taken_within_a_round() -> None:
    ours = [_trial(round_=0, seconds=1), _trial(round_=1, seconds=10), _trial(round_=2, seconds=3)]
    other = [_trial(round_=0, seconds=4), _trial(round_=1, seconds=20), _trial(round_=2, seconds=9)]

    assert ratio(ours, other, lambda trial: trial.work_seconds) == Spread(
        median=1 / 3, low=1 / 4, high=1 / 2
    )


def test_a_target_is_met_on_its_side_of_the_limit() -> None:
    assert Target("speed", Spread(4, 1, 9), at_least=4).is_met
    assert not Target("speed", Spread(3.9, 1, 9), at_least=4).is_met
    assert Target("time", Spread(0.75, 0, 9), at_most=0.75).is_met
    assert not Target("time", Spread(0.8, 0, 9), at_most=0.75).is_met


def test_tuning_changes_options_alone() -> None:
    assert {TUNED_TWO.table, *(contender.table for contender in WITH_BAD)} == {DEFAULT.table}
    assert TUNED_TWO.command[: len(DEFAULT.command)] == DEFAULT.command


def _trial(round_: int, seconds: float) -> Trial:
    return Trial("one", round_, 100, seconds, seconds, seconds, 1)
