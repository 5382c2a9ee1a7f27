"""An import from its command to its rows."""

from tests.support.databases import Sql
from tests.support.programs import Importer


def test_imports_the_cache_once(importer: Importer, sql: Sql) -> None:
    result = importer.run("import", "--json")

    assert result.status == 0
    assert result.json()["imported"] == 5_000
    assert sql.value("SELECT count(*) FROM random_users") == 5_000
    assert sql.value("SELECT count(*) FROM errors") == 0
