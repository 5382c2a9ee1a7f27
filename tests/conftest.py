"""What the tests share: a real PostgreSQL, the API's stand-in, and the programs as processes."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

import database
from tests.standin import Standin
from tests.standin.rate_limit import RateLimit
from tests.support.databases import EMPTY, Server, Sql, running_server
from tests.support.programs import PROJECT, Importer, Programs, clean_environment

NOWHERE = "http://127.0.0.1:9/api/1.4/"
"""Port 9 takes no connection: a test that has no stand-in asks nobody."""


hypothesis_settings.register_profile("short", max_examples=200, deadline=None)
hypothesis_settings.register_profile("long", max_examples=10_000, deadline=None)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "short")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded PostgreSQL of this run (of each of its workers)."""
    with running_server() as running:
        running.forget_durability()
        yield running


@pytest.fixture
def postgres_url(server: Server) -> Iterator[str]:
    """A new, migrated database."""
    with server.database() as url:
        yield url


@pytest.fixture
def empty_postgres_url(server: Server) -> Iterator[str]:
    """A new database without any table."""
    with server.database(EMPTY) as url:
        yield url


@pytest.fixture
def sql(postgres_url: str) -> Sql:
    """Asks the test's database."""
    return Sql(postgres_url)


@pytest.fixture
def db(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[database.Database]:
    """The test's database as this process's own."""
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    database.database.cache_clear()
    yield database.database()
    database.close()
    database.database.cache_clear()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of the test's own, filled with the 5,000 users of `data/data.json`."""
    return Path(shutil.copy(PROJECT / "data" / "data.json.5000", tmp_path / "data.json"))


@pytest.fixture
def programs(
    tmp_path: Path, postgres_url: str, cache: Path, request: pytest.FixtureRequest
) -> Iterator[Programs]:
    """Starts programs on the test's database and cache; ends them with the test."""
    folder = tmp_path / "programs"
    folder.mkdir()
    started = Programs(
        folder,
        clean_environment()
        | {"POSTGRES_URL": postgres_url, "IMPORT_CACHE": str(cache), "RANDOMUSER_URL": NOWHERE},
    )
    yield started
    started.end()


@pytest.fixture
def importer(programs: Programs) -> Importer:
    """`python integration.py` on the test's database and cache."""
    return Importer(programs)


@pytest.fixture
def api(programs: Programs) -> Iterator[Standin]:
    """The stand-in, without a rate limit, as the API of the test's programs."""
    with Standin(rate_limit=RateLimit(users=None)) as standin:
        programs.environment["RANDOMUSER_URL"] = standin.url
        yield standin


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows, with a test that failed, what the programs that it started said."""
    report = yield
    started = getattr(item, "funcargs", {}).get("programs")
    if report.failed and isinstance(started, Programs):
        report.sections.append(("Programs", started.report()))
    return report
