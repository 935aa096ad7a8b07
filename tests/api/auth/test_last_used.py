"""When a token was last used is noted once an hour; no request waits for it, or fails with it."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from db.runtime.timestamps import instant
from resolvers.api_tokens import list_tokens, note_use_of_tokens
from runyard.cli.tokens import tell_all
from tests.api.auth.test_authentication import ask, bearer, introduced
from tests.api.observability.test_pool_metrics import Holding
from tests.client import PATIENCE
from tests.clock import START
from tests.serving import ON_SQLITE, Serving, serving, settings_for

QUERY = "{ __typename }"


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that lets in holders of tokens alone."""
    async with serving(tmp_path, database_url=database_url, access="tokens") as served:
        yield served


async def uses(server: Serving) -> list[str | None]:
    """When each token was last used, once what is being noted is on disk."""
    writing = server.app.state.access._use._writing
    if writing is not None:
        await asyncio.wait_for(asyncio.shield(writing), PATIENCE)
    return [record.last_used_at for record in await server.life.database.read(list_tokens)]


async def use(server: Serving, headers: dict[str, str]) -> int:
    return (await ask(server.client, QUERY, headers)).status_code


async def test_a_use_is_noted_and_not_again_within_the_hour(server: Serving) -> None:
    token = await bearer(server, "read")
    await use(server, token)
    first = await uses(server)
    server.clock.advance(3599)
    await use(server, token)
    within = await uses(server)
    server.clock.advance(1)
    await use(server, token)

    assert first == within == [instant(START)]
    assert await uses(server) == [instant(START + timedelta(hours=1))]


@ON_SQLITE
async def test_uses_within_the_hour_cost_one_transaction(server: Serving) -> None:
    token = await bearer(server, "read")
    commits = server.life.database.commits.seconds.counts
    before = sum(commits)

    for _ in range(5):
        await use(server, token)
        await uses(server)
        server.clock.advance(10)

    assert sum(commits) - before == 1


async def test_a_token_that_opens_a_socket_is_used(server: Serving) -> None:
    token = await bearer(server, "read")

    async with server.client.raw_socket() as connection:
        await (await introduced(connection, token)).receive()

    assert await uses(server) == [instant(START)]


async def test_a_token_that_does_not_let_in_is_not_used(server: Serving) -> None:
    expired = await bearer(server, "read", lifetime=timedelta(seconds=1))
    guessed = await bearer(server, "read")
    server.clock.advance(1)

    statuses = [await use(server, expired)]
    statuses.append(await use(server, {"Authorization": guessed["Authorization"][:-64] + "0" * 64}))

    assert statuses == [401, 401]
    assert await uses(server) == [None, None]


@ON_SQLITE
async def test_no_request_waits_until_it_is_noted(server: Serving) -> None:
    tokens = [await bearer(server, "read") for _ in range(3)]
    holding = Holding(is_in_loop=False)
    held = asyncio.create_task(server.life.database.write(holding.write, None))
    await holding.have_begun(1)

    statuses = [await use(server, token) for token in tokens * 2]
    before = server.life.database.writes_waiting
    holding.end()
    await held

    assert statuses == [200] * 6
    assert before == 1
    assert await uses(server) == [instant(START)] * 3


async def test_what_one_server_has_noted_no_other_writes_within_the_hour(server: Serving) -> None:
    await bearer(server, "read")
    database = server.life.database
    (token,) = await database.read(list_tokens)

    async def note() -> list[str | None]:
        await database.write(note_use_of_tokens, token.id)
        return await uses(server)

    first = await note()
    server.clock.advance(3599)
    second = await note()
    server.clock.advance(1)

    assert first == second == [instant(START)]
    assert await note() == [instant(START + timedelta(hours=1))]


@ON_SQLITE
async def test_what_could_not_be_noted_fails_no_request_and_is_tried_again_a_minute_later(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    token = await bearer(server, "read")
    await use(server, token)
    await uses(server)
    await server.life.database.close()

    async def warnings_after(seconds: float) -> int:
        server.clock.advance(seconds)
        assert await use(server, token) == 200
        writing = server.app.state.access._use._writing
        if writing is not None:
            await asyncio.wait_for(writing, PATIENCE)
        told = [record for record in caplog.records if record.msg.startswith("The use of %d tokens could not be noted")]
        return len(told)

    assert [await warnings_after(seconds) for seconds in (3600, 59, 1)] == [1, 1, 2]


def test_people_are_told(database_url: str, tmp_path: Path) -> None:
    async def use_one() -> None:
        async with serving(tmp_path, database_url=database_url, access="tokens") as server:
            used = await bearer(server, "read", name="used")
            await bearer(server, "read", name="idle")
            await use(server, used)
            await uses(server)

    asyncio.run(use_one())
    lines = tell_all(settings_for(tmp_path, database_url=database_url))

    assert re.fullmatch("ID +SCOPES +CREATED +LAST USED +STATUS +NAME", lines[0])
    told = {line.split()[-1]: re.split(" {2,}", line)[3] for line in lines[1:]}
    assert told == {"used": "2030-01-01 12:00:00Z", "idle": "never"}
