"""The API fails for good, or comes back: what the import makes of it."""

import json

import pytest

from tests.standin import Standin
from tests.standin.faults import Fault, TooManyRequests, WrongPage
from tests.standin.query import Query
from tests.standin.users import Users
from tests.support.databases import Sql
from tests.support.programs import Importer

FETCH = ("import", "--count", "60", "--seed", "faults", "--chunk-size", "20", "--json")


@pytest.mark.parametrize(("fault", "reason"), [(TooManyRequests(), "429"), (WrongPage(), "page 2")])
def test_fault_that_lasts_ends_the_import_in_bounded_time(
    importer: Importer, sql: Sql, api: Standin, fault: Fault, reason: str
) -> None:
    api.script(fault, times=None)

    result = importer.run(*FETCH, env={"IMPORT_PATIENCE": "2"})

    assert result.status == 1
    assert result.json()["status"] == "incomplete"
    assert reason in result.json()["reason"]
    assert '"waiting": true' in result.stderr
    assert sql.value("SELECT count(*) FROM random_users") == 0

    api.clear_script()
    assert importer.run(*FETCH).status == 0
    assert holds_the_page(sql)


def test_refused_connections_are_waited_for(importer: Importer, sql: Sql, api: Standin) -> None:
    api.stop()
    process = importer.spawn(*FETCH)
    process.wait_for("refused")
    api.start()

    assert process.wait().status == 0
    assert holds_the_page(sql)


def holds_the_page(sql: Sql) -> bool:
    """Whether the rows are the users asked for, and no others."""
    wanted = Users().page(Query("faults", results=60)).users
    ids = {json.loads(user)["login"]["uuid"] for user in wanted}
    return {str(row[0]) for row in sql("SELECT id FROM random_users")} == ids
