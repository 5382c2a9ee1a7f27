"""A fetch over several pages: each once, after a crash too, and with the API's limits kept."""

from collections.abc import Sequence

import pytest

from tests.standin import Standin, faults
from tests.standin.rate_limit import RateLimit
from tests.support.databases import Sql
from tests.support.programs import Importer, Programs
from tests.support.waiting import until

FETCH = ("import", "--count", "12000", "--seed", "fetching", "--json")


def asked_pages(api: Standin) -> Sequence[int]:
    return [int(request.parameters["page"]) for request in api.requests]


def test_pages_have_one_size_and_come_once(importer: Importer, sql: Sql, api: Standin) -> None:
    result = importer.run(*FETCH)

    assert (result.status, result.json()["imported"]) == (0, 12_000)
    assert [request.parameters for request in api.requests] == [
        {"seed": "fetching", "results": "4000", "page": str(page)} for page in (1, 2, 3)
    ]
    assert sql("SELECT seed, users FROM imports") == [("fetching", 12_000)]
    assert sql.value("SELECT count(*) FROM random_users") == 12_000


def test_after_a_crash_the_next_page_follows(importer: Importer, sql: Sql, api: Standin) -> None:
    api.script(faults.Hang(), times=None, pages=[3])
    first = importer.spawn(*FETCH)
    until(lambda: 3 in asked_pages(api), "page 3 is asked for")
    first.kill()
    api.clear_script()

    result = importer.run(*FETCH)

    assert (result.status, result.json()["imported"]) == (0, 12_000)
    assert asked_pages(api) == [1, 2, 3, 3]
    assert sql.value("SELECT count(*) FROM random_users") == 12_000


def test_nationalities_are_asked_for(importer: Importer, sql: Sql, api: Standin) -> None:
    importer.run("import", "--count", "50", "--seed", "s", "--nat", "fr,no")

    assert api.requests[0].parameters["nat"] == "fr,no"
    assert set(sql("SELECT DISTINCT nat FROM random_users")) == {("FR",), ("NO",)}


def test_a_fetch_without_a_seed_makes_one_up_and_keeps_it(
    importer: Importer, sql: Sql, api: Standin
) -> None:
    first = importer.run("import", "--refresh", "--count", "40", "--json")
    second = importer.run("import", "--refresh", "--count", "40", "--json")

    seeds = [request.parameters["seed"] for request in api.requests]
    assert (first.json()["imported"], second.json()["imported"]) == (40, 40)
    assert len(set(seeds)) == 2, "complete, it is not continued"
    assert sorted(sql("SELECT seed FROM imports")) == sorted((seed,) for seed in seeds)


def test_a_rate_limit_is_waited_for(importer: Importer, programs: Programs) -> None:
    now = 0.0
    with Standin(rate_limit=RateLimit(users=2_501, seconds=300, clock=lambda: now)) as api:
        programs.environment["RANDOMUSER_URL"] = api.url
        running = importer.spawn("import", "--count", "5001", "--seed", "limited", "--json")
        running.wait_for("429")
        now = 300.0

        result = running.wait()

    assert (result.status, result.json()["imported"]) == (0, 5_001)
    assert "trying again" in result.stderr


@pytest.mark.parametrize("fault", [faults.WrongPage(), faults.WrongSeed(), faults.MoreUsers()])
def test_what_was_not_asked_for_is_not_imported(
    importer: Importer, sql: Sql, api: Standin, fault: faults.Fault
) -> None:
    api.script(fault, times=None, pages=[2])

    result = importer.run("import", "--count", "5001", "--seed", "s", "--json")

    assert (result.status, result.json()["status"]) == (1, "incomplete")
    assert "asked for seed s, page 2, 2501 users" in result.json()["reason"]
    assert sql.value("SELECT count(*) FROM random_users") == 2_501, "page 1 is in"
    api.clear_script()
    assert importer.run("import", "--count", "5001", "--seed", "s").status == 0
    assert sql.value("SELECT count(*) FROM random_users") == 5_001
