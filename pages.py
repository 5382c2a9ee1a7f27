"""Pages on their way in: from the cache, a file or the API into the staging table, as chunks."""

import gzip
import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, cast

import msgspec
import zstandard
from dbos import EnqueueOptions
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

import imports
import settings
import telemetry
from database import database, transaction
from imports import Attempt
from models import Chunks, Imports, StagedPages
from source import Page, Query, Source, SourceError, in_pages

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Of a .jsonl: a longer line is no record, and reading it whole would fill the memory."""

READ_BYTES = 1024 * 1024

CHUNK_WORKFLOW = "import_chunk"


class StagedChunk(msgspec.Struct, frozen=True):
    """Where a chunk stands: its first record's position in the import, its block in the page."""

    position: int
    users: int
    offset: int
    length: int


@dataclass(frozen=True)
class Staged:
    """A page in the staging table, and where its source goes on; nowhere after the last page."""

    next_cursor: str | None


@dataclass(frozen=True)
class Content:
    """Of a file: which write of which one it is on its file system, and what was in it."""

    version: str
    sha256: str


def stage_file(source: Source, this: Attempt) -> None:
    """Stages the import's file, page by page, each with its chunks enqueued.

    A page that is already staged is read over, so that this may run again after a crash. Raises
    SourceError where the file is away, broken, or not, or no longer, the one that the import was
    begun with: of another one, nothing is staged. Raises NotRunning.
    """
    path = Path(this.plan.path or "")
    with _unpacked(path) as file:
        for number, page in enumerate(_pages_of_same(source, this, path, file), 1):
            _stage_page(source, this, number, None, page)


def stage_fetched(source: Source, this: Attempt, number: int, cursor: str) -> str | None:
    """Stages the API's page at a cursor, with its chunks enqueued; returns the next cursor.

    May run again after a crash: a page that is staged is not fetched anew. Raises SourceError and
    NotRunning.
    """
    staged = transaction("resume_page", _resume, this, number)
    if staged is not None:
        return staged.next_cursor
    query = Query(this.plan.url or "", this.plan.count, this.plan.parameters)
    with telemetry.span("fetch_page", **{"import.id": this.id, "import.page": number}):
        page = source.fetch(query, cursor)
    if this.plan.is_cached and cursor == source.first_cursor and page.next_cursor is None:
        _keep(source, page)
    _stage_page(source, this, number, page.next_cursor, page.records)
    return page.next_cursor


def read_records(source: Source, path: Path) -> Iterator[bytes]:
    """The records of an API answer (`.json`) or of lines (`.jsonl`), either also as `.gz`.

    Lines are read one at a time, in flat memory. Raises SourceError with the place where the file
    breaks.
    """
    with _unpacked(path) as file:
        yield from _records(source, path, file)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, also of a `.gz`, without the blank ones. Raises SourceError."""
    with _unpacked(path) as file:
        yield from _lines(path, file)


def content_of(path: Path) -> Content:
    """Tells what a file holds, unpacked: a packed file and its content are one import."""
    with _unpacked(path) as file:
        # Before it is read: what is written meanwhile makes another version.
        return Content(version=_version(file), sha256=_sha256(file))


def write_cache(path: Path, body: bytes) -> None:
    """Replaces the cached answer in one move: a reader finds the old one or the new one, whole.

    A folder that can't be written is said and left: the cache serves the next import, not this.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        log.warning("%s is not renewed: %s", path, error.strerror)
        return
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        log.warning("%s is not renewed: %s", path, error.strerror)
        with suppress(OSError):
            new.unlink()


def pack(records: Sequence[bytes]) -> bytes:
    """A chunk's records as one compressed block."""
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(records))


def unpack(block: bytes) -> list[bytes]:
    """The records of a block."""
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(block), type=list[bytes])


def _keep(source: Source, page: Page) -> None:
    """Keeps a whole answer for later imports, unless what is kept holds more: a plain import takes
    all that is there, and must not become one of a few because a few were fetched in between.
    """
    path = settings.cache_file()
    if len(page.records) >= _held(source, path):
        write_cache(path, page.body)


def _held(source: Source, cache: Path) -> int:
    try:
        return len(source.split(cache.read_bytes()))
    except (OSError, SourceError):
        return 0


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's content; what goes wrong with it inside, too, becomes a SourceError."""
    try:
        with _open(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        problem = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} can't be read: {problem}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _pages_of_same(
    source: Source, this: Attempt, path: Path, file: IO[bytes]
) -> Iterator[Sequence[bytes]]:
    """The pages of the file that the import was begun with. Raises SourceError before the first one
    of another file, and in place of one read while the file was written to.
    """
    last_write = _last_write(file)
    # To read all of it once more would hold up the first page.
    is_same = _version(file) == this.plan.version or _sha256(file) == this.plan.sha256
    file.seek(0)
    records = _records(source, path, file)
    # A .json is read whole by now: whatever becomes of it has no effect any more.
    reads_on = isinstance(records, Iterator)
    if not is_same or _last_write(file) != last_write:
        raise _changed(path, this)
    for page in in_pages(islice(records, this.plan.count), source.page_size):
        if reads_on and _last_write(file) != last_write:
            raise _changed(path, this)
        yield page
    # The last page may have been the last one only because the file was cut there.
    if reads_on and _last_write(file) != last_write:
        raise _changed(path, this)


def _changed(path: Path, this: Attempt) -> SourceError:
    return SourceError(
        f"{path} has changed since import {this.id} began, which needs the former one; "
        "the same command begins a new import, of what the file holds now"
    )


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _version(file: IO[bytes]) -> str:
    """No two of a file system's are the same; a mere change of name makes a new one, too."""
    status = os.fstat(file.fileno())
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"


def _last_write(file: IO[bytes]) -> tuple[int, int]:
    """Changes when the file is written to, not when another one is put in its place."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _records(source: Source, path: Path, file: IO[bytes]) -> Iterable[bytes]:
    if ".jsonl" in path.suffixes:
        return _lines(path, file)
    try:
        return source.split(file.read())
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None


def _lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := file.read(READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise SourceError(f"{path} has a line of over {MAX_LINE_BYTES:,} bytes")
        yield from filter(None, map(bytes.strip, lines))
    if record := rest.strip():
        yield record


def _stage_page(
    source: Source, this: Attempt, number: int, next_cursor: str | None, records: Sequence[bytes]
) -> None:
    attributes = {"import.id": this.id, "import.page": number, "import.users": len(records)}
    with telemetry.span("stage_page", **attributes):
        transaction("stage_page", _stage, source, this, number, next_cursor, records)


def _resume(session: Session, this: Attempt, number: int) -> Staged | None:
    """A page that is staged already, those of its chunks that remain put on the queue.

    Raises NotRunning.
    """
    begun_at = imports.lock_running(session, this).resumed_at
    page = session.execute(
        select(StagedPages.next_cursor).where(
            StagedPages.import_id == this.id, StagedPages.page == number
        )
    ).one_or_none()
    if page is None:
        return None
    _enqueue_remaining(session, this, number, begun_at)
    return Staged(page.next_cursor)


def _stage(
    session: Session,
    source: Source,
    this: Attempt,
    number: int,
    next_cursor: str | None,
    records: Sequence[bytes],
) -> None:
    """One page: its records, what its chunks are, and the chunks on the queue, or none of it.

    Raises NotRunning: neither DBOS's checkpoints nor its fencing reach into a step, so that a
    process which was frozen and taken over may still be at it.
    """
    if _resume(session, this, number) is not None:
        return
    first, position = _end(session, this)
    payload, blocks = _blocks(source, records, position, this.plan.chunk_size)
    chunks = list(enumerate(blocks, first))
    session.execute(
        insert(StagedPages).values(
            import_id=this.id, page=number, next_cursor=next_cursor, payload=payload
        )
    )
    if not records:
        return
    session.execute(
        insert(Chunks),
        [
            {
                "import_id": this.id,
                "chunk": index,
                "page": number,
                "position": chunk.position,
                "users": chunk.users,
                "block_offset": chunk.offset,
                "block_length": chunk.length,
            }
            for index, chunk in chunks
        ],
    )
    session.execute(
        update(Imports).where(Imports.id == this.id).values(users=Imports.users + len(records))
    )
    _enqueue(
        session, this, number, [(index, chunk.position, chunk.users) for index, chunk in chunks]
    )


def _end(session: Session, this: Attempt) -> tuple[int, int]:
    """Where the import goes on: the next chunk's number, and the position of its first record."""
    # The last chunk alone: to add them all up at each page would grow with their number squared.
    last = session.execute(
        select(Chunks.chunk + 1, Chunks.position + Chunks.users)
        .where(Chunks.import_id == this.id)
        .order_by(Chunks.chunk.desc())
        .limit(1)
    ).one_or_none()
    return (0, 0) if last is None else (last[0], last[1])


def _blocks(
    source: Source, records: Sequence[bytes], position: int, chunk_size: int
) -> tuple[bytes, list[StagedChunk]]:
    payload, chunks = bytearray(), []
    for start in range(0, len(records), chunk_size):
        part = source.all_without_secrets(records[start : start + chunk_size])
        block = pack(part)
        chunks.append(StagedChunk(position + start, len(part), len(payload), len(block)))
        payload += block
    return bytes(payload), chunks


def _enqueue_remaining(session: Session, this: Attempt, number: int, begun_at: datetime) -> None:
    """Puts a page's chunks that are not loaded on the queue, in this transaction.

    Those that were given up before this attempt began are tried anew, as often as the first time.
    """
    on_page = (Chunks.import_id == this.id, Chunks.page == number)
    session.execute(
        update(Chunks)
        .where(*on_page, Chunks.failed_at < begun_at)
        .values(failed_at=None, takeovers=0)
    )
    remaining = session.execute(
        select(Chunks.chunk, Chunks.position, Chunks.users)
        .where(*on_page, Chunks.loaded_at.is_(None), Chunks.failed_at.is_(None))
        .order_by(Chunks.chunk)
    )
    _enqueue(session, this, number, [(row[0], row[1], row[2]) for row in remaining])


def _enqueue(
    session: Session, this: Attempt, number: int, chunks: Sequence[tuple[int, int, int]]
) -> None:
    """Puts chunks of a page on the queue, each given as its number, position and users."""
    trace = telemetry.import_context(this.id, this.attempt)
    for chunk, position, users in chunks:
        options = EnqueueOptions(
            workflow_name=CHUNK_WORKFLOW,
            queue_name=settings.CHUNK_QUEUE,
            workflow_id=imports.chunk_workflow_id(this.id, this.attempt, chunk),
            app_version=settings.APPLICATION_VERSION,
            attributes={
                "import": this.id,
                "page": number,
                "chunk": chunk,
                "positions": [position, position + users - 1],
            },
        )
        if trace is not None:
            options["otel_context"] = trace
        database().client.enqueue_in_transaction(session, options, this.id, chunk)
