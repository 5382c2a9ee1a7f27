"""Records in the order of their ids, and decoded when they are asked for."""

from randomuser import SOURCE, RandomUser, UserRow
from records import Entry, decode_all, decode_each, identify_all, in_order
from rejects import Reject
from source import Source
from tests.support.users import encode, users, without


class WithoutIds(RandomUser):
    """A source that can't tell ids without decoding."""

    def identify(self, record: bytes) -> None:
        return None


class Counting(RandomUser):
    """A source that counts what it decodes."""

    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, record: bytes) -> UserRow:
        self.decoded += 1
        return super().decode(record)


def entries_of(source: Source, records: list[bytes]) -> list[Entry]:
    entries, rejects = identify_all(source, enumerate(records))
    assert rejects == []
    return entries


def test_entries_are_ordered_as_their_ids_are() -> None:
    records = [encode(user) for user in users(50)]

    [once] = in_order(entries_of(SOURCE, records))

    ids = [SOURCE.decode(entry.record).id for entry in once]
    assert ids == sorted(ids)
    assert len(ids) == 50


def test_a_user_that_comes_again_comes_after_all_others() -> None:
    first, second = (encode(user) for user in users(2))

    rounds = list(in_order(entries_of(SOURCE, [first, second, first, second, first])))

    assert [sorted(entry.position for entry in once) for once in rounds] == [[0, 1], [2, 3], [4]]


def test_records_are_decoded_one_by_one() -> None:
    source = Counting()
    entries = entries_of(source, [encode(user) for user in users(3)])

    rows = decode_each(source, entries, [])

    assert source.decoded == 0
    next(rows)
    assert source.decoded == 1


def test_record_whose_id_does_not_show_is_decoded_once() -> None:
    good, bad = encode(users(1)[0]), b"{}"

    [entry], [reject] = identify_all(WithoutIds(), [(4, good), (7, bad)])

    assert (entry.position, entry.row) == (4, SOURCE.decode(good))
    assert (reject.position, reject.key, reject.stage) == (7, None, "decode")
    rejects: list[Reject] = []
    assert list(decode_each(SOURCE, [entry], rejects)) == [entry.row]


def test_what_can_not_be_decoded_is_told_with_its_id() -> None:
    [user] = users(1)
    entries = entries_of(SOURCE, [encode(without(user, "name"))])

    decoded, [reject] = decode_all(SOURCE, entries)

    assert decoded == []
    assert (reject.key, reject.failure.path) == (user["login"]["uuid"], "$.name")
