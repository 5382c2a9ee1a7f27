"""From what is asked for to what is done: of which file or which pages of the API."""

import logging
import os
from itertools import islice
from pathlib import Path

import imports
import pages
import settings
from imports import Plan
from settings import ImportOptions
from source import Query, Source, SourceError

log = logging.getLogger(__name__)


def plan_import(source: Source, options: ImportOptions) -> Plan:
    """The plan for an import, its file read and found whole, its query pinned.

    A file that is given, else the cache where it has what is wanted, else the API. Raises
    SourceError.
    """
    if options.input is not None:
        return _file_plan(source, options, options.input)
    if _is_cached(source, options) and not options.refresh:
        cache = settings.cache_file()
        if _holds(source, cache, options.count):
            return _file_plan(source, options, cache)
    return _query_plan(source, options)


def _is_cached(source: Source, options: ImportOptions) -> bool:
    """Only an answer to no parameters is: it is taken for any import without."""
    return source.is_cached and not options.parameters


def _holds(source: Source, cache: Path, count: int | None) -> bool:
    if not cache.exists():
        return False
    try:
        held = len(source.split(cache.read_bytes()))
    except (OSError, SourceError) as error:
        raise SourceError(f"{cache}: {error}; --refresh fetches it anew") from None
    return held > 0 and (count is None or count <= held)


def _file_plan(source: Source, options: ImportOptions, path: Path) -> Plan:
    path = path.absolute()
    content = pages.content_of(path)
    count = _count_to_read(source, path, options.count)
    return Plan(
        request=imports.request_of(source.name, "file", content.sha256, count, options.on_conflict),
        source=source.name,
        path=str(path),
        sha256=content.sha256,
        version=content.version,
        count=count,
        on_conflict=options.on_conflict,
        batch_size=options.batch_size,
        chunk_size=options.chunk_size,
    )


def _count_to_read(source: Source, path: Path, wanted: int | None) -> int | None:
    """How many of a file's records; None for all, also where more are wanted than it holds."""
    # Reads a .json whole, of a .jsonl no more than is wanted: what is no input makes no import.
    held = sum(1 for _ in islice(pages.read_records(source, path), wanted or 1))
    if held == 0:
        raise SourceError(f"{path} holds no records")
    if wanted is None or held == wanted:
        return wanted
    log.warning("%s holds %s records, not %s: all are imported", path, f"{held:,}", f"{wanted:,}")
    return None


def _query_plan(source: Source, options: ImportOptions) -> Plan:
    url = os.environ.get(source.url_variable) or source.default_url
    query = Query(url, options.count or source.default_count, dict(options.parameters))
    pinned = source.pinned(query)
    return Plan(
        request=imports.request_of(
            source.name, "query", url, query.count, query.parameters, options.on_conflict
        ),
        source=source.name,
        url=url,
        parameters=pinned.parameters,
        count=query.count,
        on_conflict=options.on_conflict,
        batch_size=options.batch_size,
        chunk_size=options.chunk_size,
        repeatable=pinned == query,
        is_cached=_is_cached(source, options),
    )
