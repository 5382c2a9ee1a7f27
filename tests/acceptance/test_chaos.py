"""A short run of the chaos harness, and the proof that its check sees what it is there to see."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from chaos.checks import check
from chaos.expectation import Expectation, expect
from chaos.plan import RoundPlan, plan_round
from chaos.workload import offered
from tests.support.programs import PYTHON, Importer, Programs

SEED = "97"
"""Its first round cuts connections at the start-up, then kills the worker, the starter and
PostgreSQL while chunks are loaded."""


@dataclass(frozen=True)
class Damage:
    """What a fault could have done to the database, and what the check has to say of it."""

    statement: LiteralString
    violation: str
    lost: int = 0
    doubled: int = 0


DAMAGES = [
    Damage(
        "DELETE FROM random_users WHERE id = (SELECT id FROM random_users LIMIT 1)",
        "1 users lost",
        lost=1,
    ),
    Damage(
        "DELETE FROM errors WHERE id = (SELECT id FROM errors LIMIT 1)",
        "1 rejects lost",
        lost=1,
    ),
    Damage(
        "INSERT INTO errors (id, message) SELECT gen_random_uuid(), message FROM errors LIMIT 1",
        "1 positions with several error rows",
        doubled=1,
    ),
    Damage(
        "INSERT INTO errors (id, message)"
        " SELECT gen_random_uuid(), message || '{\"position\": 299999}' FROM errors LIMIT 1",
        "1 positions imported and among the errors too",
        doubled=1,
    ),
    Damage(
        "INSERT INTO random_users SELECT r.* FROM random_users, json_populate_record("
        "random_users, json_build_object('id', gen_random_uuid())) AS r LIMIT 1",
        "1 users that the source does not hold",
    ),
    Damage(
        "UPDATE random_users SET latitude = latitude + 0.0001"
        " WHERE id = (SELECT id FROM random_users LIMIT 1)",
        "(latitude)",
    ),
    Damage(
        "UPDATE errors SET message = jsonb_set(message, '{error,path}', '\"$\"')",
        "error rows with wrong contents",
    ),
    Damage("UPDATE imports SET imported = imported + 1", "the import counts"),
    Damage("UPDATE imports SET state = 'incomplete'", "is incomplete"),
    Damage("UPDATE chunks SET skipped = skipped + 1 WHERE chunk = 0", "its chunks count"),
    Damage("UPDATE chunks SET failed_at = now() WHERE chunk = 0", "1 chunks not loaded"),
    Damage("DELETE FROM chunks WHERE chunk = 1", "the chunks don't cover"),
    Damage(
        "UPDATE dbos.workflow_status SET status = 'PENDING' WHERE workflow_uuid LIKE '%.0'",
        "1 workflows left",
    ),
    Damage(
        "INSERT INTO staged_pages (import_id, page, payload) VALUES ('x', 1, '')",
        "1 staged pages left",
    ),
]


@pytest.mark.timeout(300)  # it starts a dozen processes, one after the other
def test_nothing_is_lost_or_doubled_in_a_short_run(programs: Programs) -> None:
    result = programs.run(PYTHON, "-m", "chaos", "--seed", SEED, "--rounds", "1", timeout=280)
    assert result.status == 0, result.stdout
    assert f"SEED={SEED}" in result.stdout
    assert "rounds with a violation" in result.stdout


def test_a_seed_gives_the_same_plan() -> None:
    assert [plan_round(3, n) for n in range(9)] == [plan_round(3, n) for n in range(9)]
    assert plan_round(3, 1) != plan_round(4, 1)


@pytest.fixture
def plan() -> RoundPlan:
    """A small import with a few bad and repeated records."""
    return replace(
        plan_round(1, 1),
        origin="file",
        users=300,
        rejected=5,
        repeated=3,
        known=0,
        chunk_size=100,
        on_conflict="skip",
    )


@pytest.fixture
def imported(plan: RoundPlan, importer: Importer, tmp_path: Path) -> Expectation:
    """What the database has to hold, and does after this import."""
    with offered(plan, tmp_path) as workload:
        result = importer.run("import", *workload.options, "--chunk-size", str(plan.chunk_size))
        assert result.status == 3, result.stderr
        return expect(plan, workload)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(postgres_url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


def test_the_check_sees_damage(
    imported: Expectation, connection: psycopg.Connection[DictRow]
) -> None:
    """One import, damaged in one way after the other, for its time's sake."""
    for damage in DAMAGES:
        with connection.transaction(force_rollback=True):
            connection.execute(damage.statement)
            findings = check(connection, imported)
        assert (findings.lost, findings.doubled) == (damage.lost, damage.doubled), damage
        assert any(damage.violation in found for found in findings.violations), (damage, findings)
    assert check(connection, imported).violations == []
