"""The stand-in's users look like the API's, and are always the same ones."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import md5, sha1, sha256
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.standin.make_data import COUNTS, write
from tests.standin.query import FIELDS, NATIONALITIES, Query, parse
from tests.standin.rate_limit import RateLimit
from tests.standin.users import Users

ROOT = Path(__file__).parents[2]

DATA_SHA256 = "cac7866dd5fd22c44bca33b4bfc06550ffd57d87edd42a0280a6aac3f57cadad"

NAMES_OF_IDS = {
    "DNI", "BSN", "NINO", "SID", "HETU", "CPF", "AVS", "SSN", "NSS",
    "CPR", "INSEE", "TFN", "SIN", "PPS", "FN", "UIDAI", "SVNR",
}  # fmt: skip

User = dict[str, Any]


def records(query: Query) -> list[User]:
    return [json.loads(user) for user in Users().page(query).users]


def share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def users() -> list[User]:
    """20,000 users: four pages of a seed."""
    pages = (records(Query("unit", page, 5_000)) for page in range(1, 5))
    return list(chain.from_iterable(pages))


def test_uuids_are_unique_and_of_version_4(users: list[User]) -> None:
    uuids = {UUID(user["login"]["uuid"]) for user in users}
    assert len(uuids) == len(users)
    assert {uuid.version for uuid in uuids} == {4}


def test_emails_and_usernames_are_not_unique(users: list[User]) -> None:
    for values in (
        [user["email"] for user in users],
        [user["login"]["username"] for user in users],
    ):
        assert 0.9 < len(set(values)) / len(users) < 1


def test_every_user_has_every_field_in_the_order_of_the_api(users: list[User]) -> None:
    assert {tuple(user) for user in users} == {FIELDS}


def test_nationalities_are_equally_frequent(users: list[User]) -> None:
    counts = Counter(user["nat"] for user in users)
    assert set(counts) == set(NATIONALITIES)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_postcodes_are_mostly_numbers(users: list[User]) -> None:
    numbers = share(isinstance(user["location"]["postcode"], int) for user in users)
    assert numbers == pytest.approx(0.86, abs=0.01)


def test_a_fifth_has_no_national_id(users: list[User]) -> None:
    without = [user["id"] for user in users if user["id"]["name"] == ""]
    assert len(without) / len(users) == pytest.approx(0.19, abs=0.01)
    assert all(id_["value"] is None for id_ in without)


def test_national_ids_are_those_of_the_api(users: list[User]) -> None:
    ids = [user["id"] for user in users if user["id"]["name"]]
    assert {id_["name"] for id_ in ids} == NAMES_OF_IDS
    assert max(len(id_["value"]) for id_ in ids) <= 17
    assert not any(set(id_["value"]) & set("{}#?") for id_ in ids)


def test_titles(users: list[User]) -> None:
    titles = {user["name"]["title"] for user in users}
    assert titles == {"Mr", "Mrs", "Ms", "Miss", "Monsieur", "Madame", "Mademoiselle"}


def test_scripts(users: list[User]) -> None:
    """Persian for Iran, with joiners of no width; a little Cyrillic in Serbia; else Latin."""
    by_nation = Counter[tuple[str, str]]()
    for user in users:
        text = json.dumps([user["name"], user["location"]["street"]], ensure_ascii=False)
        by_nation[user["nat"], "persian"] += bool(re.search("[\u0600-\u06ff]", text))
        by_nation[user["nat"], "joiner"] += "\u200c" in text
        by_nation[user["nat"], "cyrillic"] += bool(re.search("[\u0400-\u04ff]", text))
    assert {nat for nat, script in +by_nation if script in ("persian", "joiner")} == {"IR"}
    assert {nat for nat, script in +by_nation if script == "cyrillic"} == {"RS"}
    assert by_nation["IR", "joiner"] > 10


def test_punctuation_that_breaks_naive_code(users: list[User]) -> None:
    text = json.dumps([user["location"] for user in users], ensure_ascii=False)
    assert all(character in text for character in "'’/()")


def test_the_longest_street_name(users: list[User]) -> None:
    assert max(len(user["location"]["street"]["name"]) for user in users) == 56


def test_coordinates_are_decimals_in_strings(users: list[User]) -> None:
    for user in users:
        coordinates = user["location"]["coordinates"]
        assert re.fullmatch(r"-?\d{1,2}\.\d{4}", coordinates["latitude"])
        assert re.fullmatch(r"-?\d{1,3}\.\d{4}", coordinates["longitude"])
        assert abs(float(coordinates["latitude"])) <= 90
        assert abs(float(coordinates["longitude"])) <= 180


def test_timezones(users: list[User]) -> None:
    offsets = {user["location"]["timezone"]["offset"] for user in users}
    assert len(offsets) == 30
    assert {"0:00", "+5:45", "-3:30"} <= offsets
    assert all(re.fullmatch(r"0:00|[+-][1-9]\d?:\d\d", offset) for offset in offsets)


def test_dates(users: list[User]) -> None:
    for user in users:
        for moment in (user["dob"], user["registered"]):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment["date"])
    assert {int(user["dob"]["date"][:4]) for user in users} == set(range(1944, 2002))
    assert {int(user["registered"]["date"][:4]) for user in users} == set(range(2002, 2023))


@pytest.mark.parametrize(("days", "age"), [(-1, 69), (0, 70), (364, 70)])
def test_age_is_in_whole_years_of_today(days: int, age: int) -> None:
    query = Query("age")
    born = datetime.fromisoformat(records(query)[0]["dob"]["date"]).date()
    today = born.replace(year=born.year + 70) + timedelta(days)
    user = json.loads(Users(today).page(query).users[0])
    assert user["dob"]["age"] == age


def test_password_hashes_are_computed(users: list[User]) -> None:
    for login in (user["login"] for user in users[:1_000]):
        salted = (login["password"] + login["salt"]).encode()
        assert len(login["salt"]) == 8
        assert login["md5"] == md5(salted).hexdigest()
        assert login["sha1"] == sha1(salted).hexdigest()
        assert login["sha256"] == sha256(salted).hexdigest()


def test_a_user_has_about_a_kilobyte(users: list[User]) -> None:
    body = Users().page(Query("unit", 1, 5_000)).encode()
    assert len(body) / 5_000 == pytest.approx(1_080, abs=20)


def test_the_same_query_gives_the_same_users() -> None:
    query = Query("same", 3, 50, ("DE", "IR"))
    assert Users().page(query).encode() == Users().page(query).encode()


@pytest.mark.parametrize(
    "other",
    [Query("other", 3, 50), Query("same", 4, 50), Query("same", 3, 50, ("DE", "IR"))],
    ids=["seed", "page", "nationalities"],
)
def test_another_query_gives_other_users(other: Query) -> None:
    mine, others = (
        {user["login"]["uuid"] for user in records(query)}
        for query in (Query("same", 3, 50), other)
    )
    assert mine.isdisjoint(others)


def test_a_shorter_page_is_the_beginning_of_a_longer_one() -> None:
    assert Users().page(Query("x", 2, 200)).users[:20] == Users().page(Query("x", 2, 20)).users


def test_only_nationalities_asked_for() -> None:
    assert {user["nat"] for user in records(Query("x", 1, 200, ("NO", "TR")))} == {"NO", "TR"}


def test_data_files_are_what_the_stand_in_makes(tmp_path: Path) -> None:
    write(tmp_path)
    for name in COUNTS:
        made = (tmp_path / name).read_bytes()
        if name != "data.json":  # that one is the cache, and a fetch replaces it
            assert made == (ROOT / "data" / name).read_bytes(), name
        assert json.loads(made)["info"]["results"] == COUNTS[name]
    assert (tmp_path / "data.json").read_bytes() == (tmp_path / "data.json.5000").read_bytes()
    assert sha256((tmp_path / "data.json").read_bytes()).hexdigest() == DATA_SHA256


def test_users_do_not_depend_on_hash_randomisation(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.standin.make_data", tmp_path],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "4711"},
        check=True,
    )
    assert sha256((tmp_path / "data.json").read_bytes()).hexdigest() == DATA_SHA256


@pytest.mark.parametrize(
    ("asked", "results"),
    [
        *(("1", 1), ("20", 20), ("5000", 5_000)),
        *(("5001", 1), ("0", 1), ("-5", 1), ("many", 1), ("", 1), ("1_000", 1), ("2.5", 1)),
    ],
)
def test_wrong_results_are_one_user(asked: str, results: int) -> None:
    assert parse({"results": asked}).results == results


@pytest.mark.parametrize(
    ("asked", "page"),
    [("1", 1), ("7", 7), ("10000", 10_000), ("10001", 1), ("-1", 1), ("last", 1), ("0", 1)],
)
def test_wrong_pages_are_page_1(asked: str, page: int) -> None:
    assert parse({"page": asked}).page == page


@pytest.mark.parametrize(
    ("asked", "nationalities"),
    [
        *(("DE", ("DE",)), ("de,ir", ("DE", "IR")), ("NO, TR", ("NO", "TR"))),
        *(("", NATIONALITIES), ("XX", NATIONALITIES), ("DE,XX", NATIONALITIES)),
    ],
)
def test_unknown_nationalities_are_all(asked: str, nationalities: tuple[str, ...]) -> None:
    assert parse({"nat": asked}).nationalities == nationalities


def test_without_a_seed_each_answer_has_one_of_its_own() -> None:
    seeds = {parse({}).seed for _ in range(5)}
    assert len(seeds) == 5
    assert all(re.fullmatch("[0-9a-f]{16}", seed) for seed in seeds)


def test_rate_limit_by_client_and_window() -> None:
    now = 100.0
    limit = RateLimit(20_000, 300, clock=lambda: now)
    assert [limit.allows("a", 5_000) for _ in range(5)] == [True, True, True, True, False]
    assert limit.allows("b", 5_000)
    now = 399.9
    assert not limit.allows("a", 1)
    now = 400.0
    assert limit.allows("a", 5_000)


def test_no_rate_limit() -> None:
    limit = RateLimit(None)
    assert all(limit.allows("a", 5_000) for _ in range(10))
