"""The seam between an API and the importer: what one has to say of an API to import from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, cast

import msgspec
from sqlalchemy import Executable, Table

from models import Base


class SourceError(Exception):
    """The source can't be used as it is: the message says what is wrong, and what to do."""


class RecordError(Exception):
    """One record is not what the source promises.

    `path` is the field, as in `$.location.city`; `detail` says what is wrong with it. Neither
    holds the field's value: it may be a secret.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{detail} - at `{path}`")
        self.path = path
        self.detail = detail


@dataclass(frozen=True)
class Query:
    """A request for records: the API's address, how many (None: all), the source's parameters."""

    url: str
    count: int | None
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Records as the API sent them (JSON, one `bytes` each), and where to go on.

    `next_cursor` is None after the last page. `body` is the whole answer, for the cache.
    """

    records: Sequence[bytes]
    next_cursor: str | None
    body: bytes


class Row(msgspec.Struct, frozen=True):
    """A record as its table takes it. The fields of a subclass are the table's columns, `id` the
    key; a field that is no column is for `Source.details`.
    """

    id: Any


@dataclass(frozen=True)
class Facet:
    """A column by which the report counts users: by its values, or in steps where it has numbers.

    `title` names what it holds, in a sentence such as "Users by age".
    """

    column: str
    title: str
    step: int | None = None


class Source(ABC):
    """One API. All that is peculiar to it is in its subclass: its paging, its record, its row."""

    name: ClassVar[str]
    """Of the module whose `SOURCE` it is."""
    model: ClassVar[type[Base]]
    """Of its table: the columns of `row_type`, and `import_id` and `imported_at` beside them."""
    alembic_config: ClassVar[str] = "migrations/alembic.ini"
    """What Alembic makes its tables by, from the project's folder."""
    row_type: ClassVar[type[Row]]
    url_variable: ClassVar[str]
    default_url: ClassVar[str]
    page_size: ClassVar[int]
    """Records in a page, at most: also in a page made of a file."""
    default_count: ClassVar[int | None] = None
    """Records wanted where nobody says how many; None: all that the API has."""
    is_cached: ClassVar[bool] = False
    """Whether an answer of one page, asked for without parameters, is kept in `IMPORT_CACHE`, and
    taken from there."""
    parameters: ClassVar[Sequence[str]] = ()
    """Names of the parameters that a query may have."""
    first_cursor: ClassVar[str]
    facets: ClassVar[Sequence[Facet]] = ()
    details: ClassVar[Sequence[Executable]] = ()
    """Statements that fill the tables hanging on `model`, run after each batch in its savepoint,
    with `batch` (the rows as a JSON array) and `ids` (of the rows inserted or updated)."""

    @classmethod
    def table(cls) -> Table:
        """That of `model`."""
        return cast(Table, cls.model.__table__)

    def pinned(self, query: Query) -> Query:
        """The query made repeatable: with what the API would make up anew at each request."""
        return query

    @abstractmethod
    def fetch(self, query: Query, cursor: str) -> Page:
        """The page at a cursor, checked to be the one that was asked for.

        Raises SourceError when the API stays away or keeps answering something else.
        """

    @abstractmethod
    def split(self, body: bytes) -> list[bytes]:
        """The records of a whole answer. Raises SourceError with the place where it breaks."""

    @abstractmethod
    def without_secrets(self, record: bytes) -> bytes:
        """A record, valid or not, as it may be stored."""

    def all_without_secrets(self, records: Sequence[bytes]) -> list[bytes]:
        """The same of many; for a source that is quicker at many than at each."""
        return [self.without_secrets(record) for record in records]

    def identify(self, record: bytes) -> Any | None:
        """The id that a record's row has or would have; None where it doesn't show.

        A record is asked for it before it is decoded: where it takes as long, leave it out.
        """
        return None

    @abstractmethod
    def decode(self, record: bytes) -> Row:
        """The row of a record. Raises RecordError."""


@cache
def load(name: str) -> Source:
    """The source of a module, by the module's name: its `SOURCE`.

    Raises SourceError where there is no such module, or nothing to import from in it.
    """
    try:
        source = import_module(name).SOURCE
    except (ImportError, AttributeError) as error:
        raise SourceError(f"{name} is no source: {error}") from error
    if not isinstance(source, Source):
        raise SourceError(f"{name} is no source: its SOURCE is a {type(source).__name__}")
    return source


def in_pages(records: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    """Records in lists of `size`, the last one shorter; never an empty one."""
    page: list[bytes] = []
    for record in records:
        page.append(record)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
