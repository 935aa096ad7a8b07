"""State changes on SQLite are ordered by ids, which increase even when the system clock is set back."""

import sqlite3
from contextlib import closing

from schema.inputs.cursors import encode_cursor
from tests.builders.api_runs import create_task_run
from tests.serving import SQLITE_ONLY, ServerProcess
from tests.state_change_followers import receive_events, states_of

# PostgreSQL orders changes by transaction.
pytestmark = SQLITE_ONLY

FAR_AHEAD = "7fa206b2-304f-7000-b2ee-99ddb7de4877"


async def test_changes_stay_ordered_when_the_clock_was_set_back_before_restarting(
    server_process: ServerProcess, database_url: str
) -> None:
    client = await server_process.start()
    await create_task_run(client)
    await server_process.kill()
    with closing(sqlite3.connect(database_url.partition(":///")[2])) as file, file:
        file.execute("UPDATE task_run_state SET id = ?", [FAR_AHEAD])
        file.execute("UPDATE task_run SET state_id = ?", [FAR_AHEAD])

    client = await server_process.start()
    id = await create_task_run(client)
    async with client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", after=encode_cursor(["changes", 1, None, FAR_AHEAD]))
        (event,) = await receive_events(socket, 1)

    assert states_of([event]) == [(id, "PENDING")]
    assert event["state"]["id"] > FAR_AHEAD
    assert event["gap"] is False
