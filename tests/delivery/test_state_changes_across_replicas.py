"""Several servers on one PostgreSQL tell one feed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.client import PATIENCE
from tests.serving import Serving, serving
from tests.state_change_followers import create, events, following, move, states_of

POLL_SECONDS = 60.0


@pytest.fixture
def database_kind() -> str:
    """SQLite has one server."""
    return "postgresql"


@pytest.fixture
async def replicas(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Serving, Serving]]:
    """Two servers on one database, whose clocks stand still."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(tmp_path, database_url=database_url))
        yield first, await stack.enter_async_context(serving(tmp_path, database_url=database_url))


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """A connection of somebody else, who tells nobody what he does."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_change_that_is_made_at_one_server_is_told_by_another(replicas: tuple[Serving, Serving]) -> None:
    here, there = replicas
    async with following(there) as socket:
        id = await create(here.client)

        # The clocks stand still, so that no poll can have found it.
        assert states_of(await events(socket, 1)) == [(id, "PENDING")]


async def test_a_cursor_of_one_server_goes_on_at_another(replicas: tuple[Serving, Serving]) -> None:
    here, there = replicas
    async with following(here) as socket:
        id = await create(here.client)
        (first,) = await events(socket, 1)
    await move(here.client, id, "RUNNING")

    async with following(there, after=first["cursor"]) as socket:
        await move(here.client, id, "COMPLETED")
        found = await events(socket, 2)

    assert states_of(found) == [(id, "RUNNING"), (id, "COMPLETED")]
    assert [event["gap"] for event in found] == [False, False]


async def test_each_server_tells_each_state_once_and_in_one_order_whichever_wrote_it(
    replicas: tuple[Serving, Serving],
) -> None:
    here, there = replicas
    chance = random.Random(1)  # noqa: S311 - the same writes each time
    async with following(here) as one, following(there) as other:
        ids = [await create(here.client) for _ in range(5)]

        async def write(server: Serving) -> int:
            written = 0
            for type in ["RUNNING", "PAUSED"] * 3:
                inputs = [{"id": id, "state": {"type": type}, "force": True} for id in chance.sample(ids, 3)]
                rows = await server.client.ask("SetTaskRunStates", inputs=inputs)
                written += sum(row["result"]["created"] for row in rows)
            return written

        written = sum(await asyncio.gather(*(write(replicas[number % 2]) for number in range(8))))
        found, found_there = await asyncio.gather(*(events(each, 5 + written) for each in (one, other)))

    assert written == 8 * 6 * 3
    assert [event["cursor"] for event in found] == [event["cursor"] for event in found_there]
    for id in ids:
        history = [state["id"] for state in (await here.client.ask("GetTaskRun", id=id))["states"]]
        assert [event["state"]["id"] for event in found if event["taskRun"]["id"] == id] == history


async def test_changes_that_an_older_transaction_has_held_up_are_told_although_nobody_says_that_it_has_ended(
    replicas: tuple[Serving, Serving], other: Any
) -> None:
    here, there = replicas
    async with following(here) as socket:
        id = await create(here.client)
        (first,) = await events(socket, 1)
    async with other.transaction():
        await other.fetchval("SELECT pg_current_xact_id()::text")
        await move(here.client, id, "RUNNING")
        # When it is followed, it has looked, and found only what is held up.
        stack = AsyncExitStack()
        socket = await stack.enter_async_context(following(there, after=first["cursor"]))

    async with stack:
        assert states_of(await events(socket, 1)) == [(id, "RUNNING")]


async def test_a_change_of_which_no_word_comes_is_found_by_the_poll(
    database_url: str, tmp_path: Path, other: Any
) -> None:
    async with serving(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server:
        id = await create(server.client)
        async with server.client.socket() as socket:
            await socket.subscribe("TaskRunStateChanges")
            await asyncio.wait_for(server.clock.somebody_waits(POLL_SECONDS), PATIENCE)
            await other.execute(
                "INSERT INTO task_run_state (id, run_id, type, name, timestamp, details, written_in) "
                "SELECT gen_random_uuid(), id, 'RUNNING', 'Running', state_timestamp + interval '1 s', '{}', "
                "pg_current_xact_id()::text::bigint FROM task_run"
            )

            server.clock.advance(POLL_SECONDS)

            assert states_of(await events(socket, 1)) == [(id, "RUNNING")]


async def test_a_feed_stays_through_an_outage_of_the_database_and_loses_nothing(
    replicas: tuple[Serving, Serving], database_url: str
) -> None:
    here, there = replicas
    url = urlsplit(database_url)
    name = url.path[1:]
    admin = await asyncpg.connect(urlunsplit(url._replace(path="/postgres")))
    async with following(here) as socket:
        id = await create(here.client)
        (first,) = await events(socket, 1)
        await _take_away(admin, name)
        # Whatever wakes it, it finds no database, and asks again after a second.
        here.life.feed._tell()
        await asyncio.wait_for(here.clock.somebody_waits(1), PATIENCE)

        await admin.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")
        await move(there.client, id, "RUNNING")
        here.clock.advance(1)

        (second,) = await events(socket, 1)
    await admin.close()
    assert states_of([first, second]) == [(id, "PENDING"), (id, "RUNNING")]
    assert second["gap"] is False


async def _take_away(admin: Any, name: str) -> None:
    """Give the database another name, which needs that nobody uses it."""
    while True:
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        try:
            await admin.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
        except asyncpg.ObjectInUseError:
            continue
        return
