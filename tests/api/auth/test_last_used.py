"""The last use of a token is recorded once an hour; no request waits for the write or fails with it."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from db.runtime.timestamps import format_timestamp
from resolvers.api_tokens import list_tokens, record_token_use
from runyard.cli.tokens import format_token_table
from tests.bearer_tokens import bearer_headers, post_query
from tests.blocking_work import BlockingWork
from tests.client import TIMEOUT_SECONDS
from tests.clock import START
from tests.serving import SQLITE_ONLY, RunningServer, run_server, settings_for
from tests.websocket_messages import send_connection_init

QUERY = "{ __typename }"


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


async def last_uses(server: RunningServer) -> list[str | None]:
    """Wait for pending writes and return when each token was last used."""
    writing = server.app.state.authenticator._last_used_recorder._write_task
    if writing is not None:
        await asyncio.wait_for(asyncio.shield(writing), TIMEOUT_SECONDS)
    return [record.last_used_at for record in await server.services.database.read(list_tokens)]


async def use_token(server: RunningServer, headers: dict[str, str]) -> int:
    return (await post_query(server.client, QUERY, headers)).status_code


async def test_a_use_is_recorded_at_most_once_an_hour(server: RunningServer) -> None:
    token = await bearer_headers(server, "read")
    await use_token(server, token)
    first = await last_uses(server)
    server.clock.advance(3599)
    await use_token(server, token)
    within = await last_uses(server)
    server.clock.advance(1)
    await use_token(server, token)

    assert first == within == [format_timestamp(START)]
    assert await last_uses(server) == [format_timestamp(START + timedelta(hours=1))]


@SQLITE_ONLY
async def test_uses_within_the_hour_cost_one_transaction(server: RunningServer) -> None:
    token = await bearer_headers(server, "read")
    commits = server.services.database.commit_stats.duration_seconds.counts
    before = sum(commits)

    for _ in range(5):
        await use_token(server, token)
        await last_uses(server)
        server.clock.advance(10)

    assert sum(commits) - before == 1


async def test_opening_a_socket_counts_as_a_use(server: RunningServer) -> None:
    token = await bearer_headers(server, "read")

    async with server.client.raw_socket() as connection:
        await (await send_connection_init(connection, token)).receive()

    assert await last_uses(server) == [format_timestamp(START)]


async def test_a_refused_token_does_not_count_as_used(server: RunningServer) -> None:
    expired = await bearer_headers(server, "read", lifetime=timedelta(seconds=1))
    other = await bearer_headers(server, "read")
    server.clock.advance(1)

    statuses = [await use_token(server, expired)]
    statuses.append(await use_token(server, {"Authorization": other["Authorization"][:-64] + "0" * 64}))

    assert statuses == [401, 401]
    assert await last_uses(server) == [None, None]


@SQLITE_ONLY
async def test_no_request_waits_until_its_use_is_recorded(server: RunningServer) -> None:
    tokens = [await bearer_headers(server, "read") for _ in range(3)]
    blocking = BlockingWork(is_in_loop=False)
    blocked_write = asyncio.create_task(server.services.database.write(blocking.write, None))
    await blocking.wait_for_started(1)

    statuses = [await use_token(server, token) for token in tokens * 2]
    before = server.services.database.pending_writes
    blocking.release()
    await blocked_write

    assert statuses == [200] * 6
    assert before == 1
    assert await last_uses(server) == [format_timestamp(START)] * 3


async def test_a_use_recorded_by_another_server_is_not_rewritten_within_the_hour(server: RunningServer) -> None:
    await bearer_headers(server, "read")
    database = server.services.database
    (token,) = await database.read(list_tokens)

    async def record_use() -> list[str | None]:
        await database.write(record_token_use, token.id)
        return await last_uses(server)

    first = await record_use()
    server.clock.advance(3599)
    second = await record_use()
    server.clock.advance(1)

    assert first == second == [format_timestamp(START)]
    assert await record_use() == [format_timestamp(START + timedelta(hours=1))]


@SQLITE_ONLY
async def test_a_failed_write_fails_no_request_and_is_retried_after_a_minute(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    token = await bearer_headers(server, "read")
    await use_token(server, token)
    await last_uses(server)
    await server.services.database.close()

    async def warnings_after(seconds: float) -> int:
        server.clock.advance(seconds)
        assert await use_token(server, token) == 200
        writing = server.app.state.authenticator._last_used_recorder._write_task
        if writing is not None:
            await asyncio.wait_for(writing, TIMEOUT_SECONDS)
        warnings = [
            record for record in caplog.records if record.msg.startswith("Could not record the use of %d tokens")
        ]
        return len(warnings)

    assert [await warnings_after(seconds) for seconds in (3600, 59, 1)] == [1, 1, 2]


def test_the_token_list_shows_when_each_token_was_last_used(database_url: str, tmp_path: Path) -> None:
    async def use_one() -> None:
        async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
            used = await bearer_headers(server, "read", name="used")
            await bearer_headers(server, "read", name="idle")
            await use_token(server, used)
            await last_uses(server)

    asyncio.run(use_one())
    lines = format_token_table(settings_for(tmp_path, database_url=database_url))

    assert re.fullmatch("ID +SCOPES +CREATED +LAST USED +STATUS +NAME", lines[0])
    shown = {line.split()[-1]: re.split(" {2,}", line)[3] for line in lines[1:]}
    assert shown == {"used": "2030-01-01 12:00:00Z", "idle": "never"}
