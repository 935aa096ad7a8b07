"""`runyard doctor` with a connection pooler: it finds the pooler, and what servers need for it."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.cli.doctor import run_checks
from tests.connection_pooler import NEEDS_PGBOUNCER, connection_pooler
from tests.postgresql import DedicatedPostgreSQL, PostgreSQLServer, database_connection, dedicated_postgresql
from tests.serving import POSTGRESQL_ONLY, settings_for

pytestmark = [POSTGRESQL_ONLY, NEEDS_PGBOUNCER, pytest.mark.processes]

POOLED = "connections go through a connection pooler: servers prepare no statements"
DIRECT = "connections are direct"
LISTENS = "notifications use a direct connection to the same database"


def findings(database_url: str, **settings: object) -> tuple[set[str], list[str]]:
    """Return the good and the bad findings."""
    found = list(run_checks(settings_for(Path(), database_url=database_url, **settings)))
    return {each.text for each in found if each.is_ok}, [each.text for each in found if not each.is_ok]


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The URL of the database through a connection pooler."""
    with connection_pooler(database_url) as url:
        yield url


def test_a_direct_connection_needs_nothing_else(database_url: str) -> None:
    good, bad = findings(database_url)

    assert bad == []
    assert {DIRECT, "it ends the transactions of a suspended server after 10 seconds"} <= good


def test_a_pooler_needs_a_direct_connection_for_notifications(pooled_url: str, database_url: str) -> None:
    without_good, without_bad = findings(pooled_url)
    good, bad = findings(pooled_url, database_listen_url=database_url)

    assert without_bad == [
        "servers receive no notifications through a pooler, and find the work of others by polling only: set "
        "RUNYARD_DATABASE_LISTEN_URL to the URL of a direct connection to the database"
    ]
    assert bad == []
    assert POOLED in without_good & good
    assert {LISTENS, "it ends the transactions of a suspended server after 10 seconds"} <= good


def test_notifications_through_a_pooler_are_reported(pooled_url: str) -> None:
    _, bad = findings(pooled_url, database_listen_url=pooled_url)

    assert bad == [
        "RUNYARD_DATABASE_LISTEN_URL leads through a connection pooler, which does not pass notifications on: set it to "
        "the URL of a direct connection to the database"
    ]


def test_notifications_of_another_database_are_reported(
    pooled_url: str, postgresql: PostgreSQLServer, database_url: str
) -> None:
    other = postgresql.make()
    try:
        _, bad = findings(pooled_url, database_listen_url=postgresql.url_of(other))
    finally:
        postgresql.drop(other)

    assert bad == [
        "RUNYARD_DATABASE_LISTEN_URL leads to another database than RUNYARD_DATABASE_URL: set it to the URL of a direct "
        "connection to the same database"
    ]


def test_an_unreachable_connection_for_notifications_is_reported_without_its_password(database_url: str) -> None:
    good, bad = findings(database_url, database_listen_url="postgresql+asyncpg://ada:secret@127.0.0.1:1/runs")

    (message,) = bad
    assert message.startswith("The database could not be used: ")
    assert message.endswith(" Check the host, user and database in RUNYARD_DATABASE_LISTEN_URL")
    assert "RUNYARD_DATABASE_LISTEN_URL is postgresql://ada:***@127.0.0.1:1/runs" in good
    assert "secret" not in "".join([*good, *bad])


@pytest.mark.parametrize("seconds", [60.0, 61.0])
def test_locks_that_a_suspended_server_keeps_for_long_are_reported(database_url: str, seconds: float) -> None:
    _, bad = findings(database_url, database_timeout_seconds=seconds)

    message = (
        "it ends the transactions of a suspended server only after 61 seconds, and other servers wait for its locks: set "
        "RUNYARD_DATABASE_TIMEOUT_SECONDS to at most 60"
    )
    assert bad == ([message] if seconds > 60 else [])


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[DedicatedPostgreSQL]:
    with dedicated_postgresql() as server:
        yield server


def test_the_advice_for_a_lost_pooler_solves_the_problem(own_postgresql: DedicatedPostgreSQL) -> None:
    direct_url = own_postgresql.make()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own_postgresql.stop()
    own_postgresql.start(tcp_port=port)
    name = direct_url.partition("?")[0].rpartition("/")[2]
    tcp_url = f"postgresql://postgres@127.0.0.1:{port}/{name}"

    with connection_pooler(tcp_url) as pooled_url:
        _, before = findings(pooled_url, database_listen_url=tcp_url)
    asyncio.run(execute(tcp_url, re.findall(r"`(ALTER ROLE .*?)`", before[0])[0]))
    with connection_pooler(tcp_url) as pooled_url:
        good, after = findings(pooled_url, database_listen_url=tcp_url)

    assert len(before) == 1
    assert before[0].startswith("tcp_keepalives_idle is 7200 seconds and tcp_user_timeout 0 seconds, so it may keep ")
    assert after == []
    assert "it notices when the host of the pooler is lost" in good


async def execute(url: str, statements: str) -> None:
    async with database_connection(url) as connection:
        await connection.execute(statements)
