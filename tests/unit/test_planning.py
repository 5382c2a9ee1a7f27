"""What an import is made of: the cache, a file or the API; and which imports are the same one."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from imports import Plan
from planning import plan_import
from randomuser import SOURCE
from settings import ImportOptions
from source import SourceError
from tests.support.users import answer_of, lines_of, users


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of twenty users."""
    path = tmp_path / "data.json"
    path.write_bytes(answer_of(users(20)))
    monkeypatch.setenv("IMPORT_CACHE", str(path))
    return path


def planned(**options: object) -> Plan:
    return plan_import(SOURCE, replace(ImportOptions(), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [None, 1, 20])
def test_the_cache_serves_as_long_as_it_has_enough(cache: Path, count: int | None) -> None:
    plan = planned(count=count)

    assert (plan.path, plan.url, plan.count) == (str(cache), None, count)


@pytest.mark.parametrize(
    "options",
    [
        {"count": 21},
        {"refresh": True},
        {"parameters": (("seed", "a"),)},
        {"parameters": (("nat", "fr"),)},
    ],
    ids=["more than it holds", "refresh", "seed", "nat"],
)
def test_otherwise_the_api_is_asked(options: dict[str, object]) -> None:
    plan = planned(**options)

    assert plan.path is None
    assert plan.url == SOURCE.default_url
    assert plan.parameters["seed"]


def test_without_a_cache_the_api_is_asked(cache: Path) -> None:
    cache.unlink()

    assert planned().url == SOURCE.default_url


def test_an_empty_answer_is_no_cache(cache: Path) -> None:
    cache.write_bytes(answer_of([]))

    assert planned().url == SOURCE.default_url


def test_a_broken_cache_is_said(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-10])

    with pytest.raises(SourceError, match=r"data\.json.*--refresh"):
        planned()


def test_the_api_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANDOMUSER_URL", "http://127.0.0.1:9/api/")

    assert planned(refresh=True).url == "http://127.0.0.1:9/api/"


def test_a_file_is_known_by_its_content(tmp_path: Path, cache: Path) -> None:
    copy, packed, other = (tmp_path / name for name in ("b.json", "c.json.gz", "d.json"))
    copy.write_bytes(cache.read_bytes())
    packed.write_bytes(gzip.compress(cache.read_bytes()))
    other.write_bytes(answer_of(users(19)))

    assert planned(input=copy).request == planned().request
    assert planned(input=packed).request == planned().request
    assert planned(input=other).request != planned().request


@pytest.mark.parametrize("name", ["u.json", "u.jsonl", "u.jsonl.gz"])
def test_more_than_a_file_holds_is_all_of_it_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tmp_path / name
    content = lines_of(users(7)) if ".jsonl" in name else answer_of(users(7))
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    for count in (None, 6, 7):
        assert planned(input=path, count=count).count == count
    assert caplog.text == ""
    assert planned(input=path, count=10_000) == planned(input=path)
    assert f"{path} holds 7 records, not 10,000: all are imported" in caplog.text


@pytest.mark.parametrize(
    ("options", "is_same"),
    [
        ({"batch_size": 7, "chunk_size": 70}, True),
        ({"count": 19}, False),
        ({"on_conflict": "update"}, False),
    ],
)
def test_options_that_change_the_result_make_another_import(
    options: dict[str, object], is_same: bool
) -> None:
    assert (planned(**options).request == planned().request) is is_same


def test_a_fetch_is_repeatable_when_its_seed_was_given() -> None:
    seedless, seeded = planned(refresh=True), planned(parameters=(("seed", "a"),))

    assert not seedless.repeatable
    assert seeded.repeatable
    assert planned(refresh=True).request == seedless.request, "else none could be continued"
    assert planned(refresh=True).parameters["seed"] != seedless.parameters["seed"]


def test_a_file_without_records_makes_no_import(tmp_path: Path) -> None:
    for name, content in (("a.json", answer_of([])), ("b.jsonl", lines_of([]))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SourceError, match=f"{name} holds no records"):
            planned(input=path)
