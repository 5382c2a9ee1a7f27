"""How many users are asked for on how many pages, and what makes a fetch repeatable."""

import pytest

from randomuser import MAX_PAGES, MAX_RESULTS, SOURCE
from source import Query, SourceError, in_pages

URL = "http://127.0.0.1:9/api/1.4/"


def test_a_seed_that_is_given_stays() -> None:
    query = Query(URL, 10, {"seed": "mine", "nat": "fr"})

    assert SOURCE.pinned(query) == query


def test_a_seed_is_made_up_where_none_is_given() -> None:
    first, second = (SOURCE.pinned(Query(URL, 10, {"nat": "fr"})) for _ in range(2))

    assert first.parameters["nat"] == "fr"
    assert len(first.parameters["seed"]) >= 16
    assert first.parameters["seed"] != second.parameters["seed"]


def test_more_users_than_a_seed_has_pages_for_are_refused() -> None:
    most = MAX_PAGES * MAX_RESULTS
    assert SOURCE.pinned(Query(URL, most, {"seed": "a"})).count == most

    with pytest.raises(SourceError, match="50,000,001 users are more than one seed"):
        SOURCE.pinned(Query(URL, most + 1))


@pytest.mark.parametrize(
    ("records", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])]
)
def test_records_come_in_pages_of_at_most_a_size(records: int, sizes: list[int]) -> None:
    pages = list(in_pages(iter([b"{}"] * records), 3))

    assert [len(page) for page in pages] == sizes
