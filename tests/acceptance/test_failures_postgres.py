"""PostgreSQL dies, is away, breaks connections or refuses statements, with an import under way."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import psycopg
import pytest

import database
import postgres
from tests.support.databases import Sql
from tests.support.exactly_once import (
    SMALL_CHUNKS,
    UsersFile,
    assert_exactly_once,
    is_blocked,
    loaded_chunks,
    write_users,
)
from tests.support.network import connections, network
from tests.support.programs import PYTHON, Importer
from tests.support.proxy import Cut, Moment, PostgresProxy
from tests.support.waiting import until

WAITING = '"waiting": true'
REJECTS = 3
NOTICE_SECONDS = 30
"""After which nobody waits for the answer of a machine without power."""

BACK_SECONDS = 10
"""Within which an import goes on after an outage; the machine may be busy."""


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return write_users(tmp_path, 1_500, broken_every=500)


@pytest.fixture
def own_server(importer: Importer) -> Iterator[Path]:
    """The folder of an embedded server of the test's own, which its programs use."""
    with tempfile.TemporaryDirectory(prefix="pg-") as place:
        folder = Path(place) / "s"
        importer.programs.environment |= {"POSTGRES_URL": "", "POSTGRES_FOLDER": str(folder)}
        yield folder
        importer.programs.end()
        postgres.stop(folder)


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def import_words(file: UsersFile) -> tuple[str | Path, ...]:
    return ("import", "--input", file.path, *SMALL_CHUNKS, "--json")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=["kill -9", "immediate"])
def test_embedded_server_that_dies_is_started_again(
    importer: Importer, own_server: Path, file: UsersFile, number: signal.Signals
) -> None:
    assert importer.run("migrate").status == 0
    url = postgres.ensure_running(own_server)
    sql = Sql(url)
    starter = importer.spawn(*import_words(file))
    until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
    os.kill(postmaster(own_server), number)
    result = starter.wait()

    assert result.status == REJECTS
    assert WAITING in result.stderr
    postgres.ensure_running(own_server)
    assert_exactly_once(sql, file)

    os.kill(postmaster(own_server), number)
    until(lambda: postgres.running_url(own_server) is None, "the server is gone")
    assert importer.run("status").status == 0


def test_embedded_server_that_dies_in_a_migration_is_started_again(
    importer: Importer, own_server: Path, file: UsersFile
) -> None:
    url = postgres.ensure_running(own_server)
    # No transaction of its own: DBOS's migration would wait for that.
    with psycopg.connect(url, autocommit=True) as blocker:
        blocker.execute("SELECT pg_advisory_lock(%s)", [database.MIGRATION_LOCK])
        starter = importer.spawn(*import_words(file))
        until(lambda: waits_for_the_migration(blocker), "the import waits to migrate")
        os.kill(postmaster(own_server), signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            until(lambda: blocker.execute("SELECT 1") is None, "the blocker is cut off, too")
    assert starter.wait().status == REJECTS
    assert_exactly_once(Sql(postgres.ensure_running(own_server)), file)


def waits_for_the_migration(connection: psycopg.Connection) -> bool:
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return connection.execute(waiting).fetchone() is not None


def go_on_after_outage(importer: Importer, sql: Sql, file: UsersFile, seconds_away: float) -> None:
    with PostgresProxy(sql.url) as proxy:
        starter = importer.spawn(*import_words(file), env={"POSTGRES_URL": proxy.url})
        until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
        proxy.refuse()
        starter.wait_for("accepting TCP/IP connections?; trying again", seconds_away + 30)
        with suppress(AssertionError):
            starter.wait(seconds_away)
        assert starter.is_running
        before = loaded_chunks(sql)
        proxy.accept()
        until(lambda: loaded_chunks(sql) > before, "the import goes on", BACK_SECONDS)
        assert starter.wait().status == REJECTS
    assert_exactly_once(sql, file)


def test_server_that_is_away_is_waited_for(importer: Importer, sql: Sql, file: UsersFile) -> None:
    go_on_after_outage(importer, sql, file, seconds_away=2)


@pytest.mark.long
def test_server_that_is_away_for_half_a_minute_is_waited_for(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    go_on_after_outage(importer, sql, file, seconds_away=30)


def test_power_cut_of_the_server_is_noticed(importer: Importer, sql: Sql, file: UsersFile) -> None:
    with network() as between, PostgresProxy(sql.url, between.here) as proxy:
        words = (*between.command, PYTHON, "integration.py", *import_words(file))
        with psycopg.connect(sql.url) as blocker:
            blocker.execute("LOCK TABLE random_users IN EXCLUSIVE MODE")
            starter = importer.programs.spawn(*words, env={"POSTGRES_URL": proxy.url})
            until(lambda: is_blocked(sql, starter), "the import awaits an answer")
            between.lose_packets()
            proxy.refuse()
        until(lambda: not connections(starter), "it gives its connections up", NOTICE_SECONDS)
        starter.wait_for(WAITING)
        assert starter.is_running
        between.deliver_packets()
        proxy.accept()
        assert starter.wait().status == REJECTS
    assert_exactly_once(sql, file)


CUTS = [
    Cut([b"INTO chunks", b"COMMIT"], Moment.BEFORE_ANSWER),
    Cut([b"INSERT INTO random_users"], Moment.BEFORE_DELIVERY),
    Cut([b"INSERT INTO random_users"], Moment.BEFORE_ANSWER),
    Cut([b"INSERT INTO random_users", b"RELEASE"], Moment.BEFORE_ANSWER),
    Cut([b"INSERT INTO random_users", b"COMMIT"], Moment.BEFORE_DELIVERY),
    Cut([b"INSERT INTO random_users", b"COMMIT"], Moment.BEFORE_ANSWER),
]


def test_cut_connections_lose_and_double_nothing(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    with PostgresProxy(sql.url) as proxy:
        for cut in CUTS:
            proxy.script(cut)
        result = importer.run(*import_words(file), env={"POSTGRES_URL": proxy.url})
        assert proxy.cuts == len(CUTS)
    assert result.status == REJECTS
    assert_exactly_once(sql, file)


def test_deadlock_is_tried_again(importer: Importer, sql: Sql, file: UsersFile) -> None:
    first, second = sorted(file.ids)[:2]
    copied = "INSERT INTO random_users SELECT * FROM spare WHERE id = %s"
    assert importer.run(*import_words(file)).status == REJECTS
    sql("CREATE TABLE spare AS SELECT * FROM random_users")
    sql("TRUNCATE random_users, errors")
    with psycopg.connect(sql.url) as competitor:
        competitor.execute("SET deadlock_timeout = '1min'")
        competitor.execute(copied, [second])
        starter = importer.spawn(
            *(
                "import",
                "--again",
                "--input",
                file.path,
                "--chunk-size",
                "1500",
                "--batch-size",
                "1",
            )
        )
        until(lambda: waits_for_a_transaction(sql), "the import waits for the competitor")
        crossing = Thread(target=competitor.execute, args=[copied, [first]])
        crossing.start()
        crossing.join()
        competitor.rollback()
    assert starter.wait().status == REJECTS
    assert sql.value("SELECT count(*) FROM random_users") == len(file.ids)
    assert deadlocks(sql) == 1


def waits_for_a_transaction(sql: Sql) -> bool:
    return bool(sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid'"))


def deadlocks(sql: Sql) -> int:
    return int(
        sql.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    )


TRANSIENT = "40001,40P01,53100,53200,53300,57P03"

FAIL_IN_TURN = """
CREATE SEQUENCE failures;
CREATE FUNCTION fail_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    codes text[] := '{%s}';
    turn bigint := nextval('failures');
BEGIN
    IF turn <= cardinality(codes) THEN
        RAISE 'injected' USING ERRCODE = codes[turn];
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER failing AFTER INSERT ON random_users EXECUTE FUNCTION fail_in_turn();
"""


def test_transient_errors_are_tried_again(importer: Importer, sql: Sql, file: UsersFile) -> None:
    sql(FAIL_IN_TURN % TRANSIENT)

    result = importer.run(*import_words(file))

    assert result.status == REJECTS
    assert "injected" in result.stderr
    assert_exactly_once(sql, file)


SLEEP_ONCE = """
CREATE SEQUENCE batches;
CREATE FUNCTION sleep_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('batches') = 5 THEN
        PERFORM pg_sleep(60);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sleeping AFTER INSERT ON random_users EXECUTE FUNCTION sleep_once();
"""


def test_statement_timeout_gives_up_one_chunk_until_the_next_start(
    importer: Importer, sql: Sql, file: UsersFile
) -> None:
    sql(SLEEP_ONCE)
    limited = {"PGOPTIONS": "-c statement_timeout=2s"}

    result = importer.run(*import_words(file), env=limited)

    assert result.status == 1
    assert result.json()["status"] == "incomplete"
    [message] = sql.value(
        "SELECT json_agg(message) FROM errors WHERE message ->> 'stage' = 'chunk'"
    )
    first, last = message["positions"]
    assert last - first == 24
    assert message["error"]["sqlstate"] == "57014"
    assert loaded_chunks(sql) == file.count // 25 - 1

    assert importer.run(*import_words(file)).status == REJECTS
    assert_exactly_once(sql, file)


def test_too_many_connections_are_waited_out(importer: Importer, sql: Sql, file: UsersFile) -> None:
    role = f"limited_{os.getpid()}"
    sql(f"CREATE ROLE {role} LOGIN")
    try:
        sql(f"GRANT ALL ON SCHEMA public, dbos TO {role}")
        sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public, dbos TO {role}")
        sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public, dbos TO {role}")
        url = sql.url.replace("postgres@", f"{role}@")
        starter = importer.spawn(*import_words(file), env={"POSTGRES_URL": url})
        until(lambda: loaded_chunks(sql) >= 5, "some chunks are loaded")
        sql(f"ALTER ROLE {role} CONNECTION LIMIT 1")
        sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        starter.wait_for(f'too many connections for role \\"{role}\\"; trying again')
        sql(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        before = loaded_chunks(sql)
        until(lambda: loaded_chunks(sql) > before, "the import goes on", BACK_SECONDS)
        assert starter.wait().status == REJECTS
        assert_exactly_once(sql, file)
    finally:
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")
