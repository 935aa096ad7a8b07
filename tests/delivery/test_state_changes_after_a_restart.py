"""The feed on a SQLite file goes by ids, which rise even where the machine's clock does not."""

import sqlite3
from contextlib import closing

import pytest

from schema.inputs.cursors import write_cursor
from tests.serving import ServerProcess
from tests.state_change_followers import create, events, states_of

FAR_AHEAD = "7fa206b2-304f-7000-b2ee-99ddb7de4877"


@pytest.fixture
def database_kind() -> str:
    """PostgreSQL has numbers of its own."""
    return "sqlite"


async def test_changes_after_a_restart_with_the_clock_set_back_come_behind_those_before_it(
    server_process: ServerProcess, database_url: str
) -> None:
    client = await server_process.start()
    await create(client)
    await server_process.kill()
    with closing(sqlite3.connect(database_url.partition(":///")[2])) as file, file:
        file.execute("UPDATE task_run_state SET id = ?", [FAR_AHEAD])
        file.execute("UPDATE task_run SET state_id = ?", [FAR_AHEAD])

    client = await server_process.start()
    id = await create(client)
    async with client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", after=write_cursor(["changes", 1, None, FAR_AHEAD]))
        (event,) = await events(socket, 1)

    assert states_of([event]) == [(id, "PENDING")]
    assert event["state"]["id"] > FAR_AHEAD
    assert event["gap"] is False
