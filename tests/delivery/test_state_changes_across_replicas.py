"""State changes across replicas: several servers on one PostgreSQL database deliver the same events."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.builders.api_runs import create_task_run, set_states_in_turn
from tests.client import TIMEOUT_SECONDS
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server
from tests.state_change_followers import follow_state_changes, force_random_states, receive_events, states_of

# a SQLite database has a single server.
pytestmark = POSTGRESQL_ONLY

POLL_SECONDS = 60.0


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """A database connection of another program, which sends no notifications."""
    async with database_connection(database_url) as connection:
        yield connection


async def test_a_change_at_one_server_is_delivered_by_another(replicas: tuple[RunningServer, RunningServer]) -> None:
    here, there = replicas
    async with follow_state_changes(there) as socket:
        id = await create_task_run(here.client)

        # The clocks stand still, so no poll can have found the change.
        assert states_of(await receive_events(socket, 1)) == [(id, "PENDING")]


async def test_a_cursor_of_one_server_is_valid_at_another(replicas: tuple[RunningServer, RunningServer]) -> None:
    here, there = replicas
    async with follow_state_changes(here) as socket:
        id = await create_task_run(here.client)
        (first,) = await receive_events(socket, 1)
    await set_states_in_turn(here.client, id, "RUNNING", force=True)

    async with follow_state_changes(there, after=first["cursor"]) as socket:
        await set_states_in_turn(here.client, id, "COMPLETED", force=True)
        found = await receive_events(socket, 2)

    assert states_of(found) == [(id, "RUNNING"), (id, "COMPLETED")]
    assert [event["gap"] for event in found] == [False, False]


async def test_all_servers_deliver_each_state_once_in_the_same_order(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    chance = random.Random(1)  # noqa: S311 - the same writes each time
    async with follow_state_changes(here) as one, follow_state_changes(there) as other:
        ids = [await create_task_run(here.client) for _ in range(5)]

        clients = [here.client, there.client] * 4
        types = ["RUNNING", "PAUSED"] * 3
        written = sum(await asyncio.gather(*(force_random_states(each, ids, types, chance) for each in clients)))
        found, found_there = await asyncio.gather(*(receive_events(each, 5 + written) for each in (one, other)))

    assert written == 8 * 6 * 3
    assert [event["cursor"] for event in found] == [event["cursor"] for event in found_there]
    for id in ids:
        history = [state["id"] for state in (await here.client.execute("GetTaskRun", id=id))["states"]]
        assert [event["state"]["id"] for event in found if event["taskRun"]["id"] == id] == history


async def test_changes_behind_an_older_transaction_are_delivered_without_a_notification(
    replicas: tuple[RunningServer, RunningServer], other: Any
) -> None:
    here, there = replicas
    async with follow_state_changes(here) as socket:
        id = await create_task_run(here.client)
        (first,) = await receive_events(socket, 1)
    async with other.transaction():
        await other.fetchval("SELECT pg_current_xact_id()::text")
        await set_states_in_turn(here.client, id, "RUNNING", force=True)
        # Once the subscription is idle, it has read the changes and found only the blocked one.
        stack = AsyncExitStack()
        socket = await stack.enter_async_context(follow_state_changes(there, after=first["cursor"]))

    async with stack:
        assert states_of(await receive_events(socket, 1)) == [(id, "RUNNING")]


async def test_a_change_without_a_notification_is_found_by_polling(
    database_url: str, tmp_path: Path, other: Any
) -> None:
    async with run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server:
        id = await create_task_run(server.client)
        async with server.client.socket() as socket:
            await socket.subscribe("TaskRunStateChanges")
            await asyncio.wait_for(server.clock.wait_for_waiter(POLL_SECONDS), TIMEOUT_SECONDS)
            await other.execute(
                "INSERT INTO task_run_state (id, run_id, type, name, timestamp, details, written_in) "
                "SELECT gen_random_uuid(), id, 'RUNNING', 'Running', state_timestamp + interval '1 s', '{}', "
                "pg_current_xact_id()::text::bigint FROM task_run"
            )

            server.clock.advance(POLL_SECONDS)

            assert states_of(await receive_events(socket, 1)) == [(id, "RUNNING")]


async def test_a_subscription_survives_a_database_outage_without_losing_events(
    replicas: tuple[RunningServer, RunningServer], database_url: str
) -> None:
    here, there = replicas
    url = urlsplit(database_url)
    name = url.path[1:]
    async with (
        database_connection(urlunsplit(url._replace(path="/postgres"))) as admin,
        follow_state_changes(here) as socket,
    ):
        id = await create_task_run(here.client)
        (first,) = await receive_events(socket, 1)
        await _rename_database(admin, name)
        # However it is woken, it cannot read from the database and retries after a second.
        here.services.feed._wake_followers()
        await asyncio.wait_for(here.clock.wait_for_waiter(1), TIMEOUT_SECONDS)

        await admin.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")
        await set_states_in_turn(there.client, id, "RUNNING", force=True)
        here.clock.advance(1)

        (second,) = await receive_events(socket, 1)
    assert states_of([first, second]) == [(id, "PENDING"), (id, "RUNNING")]
    assert second["gap"] is False


async def _rename_database(admin: Any, name: str) -> None:
    """Rename the database, retrying until it has no connections."""
    while True:
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        try:
            await admin.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
        except asyncpg.ObjectInUseError:
            continue
        return
