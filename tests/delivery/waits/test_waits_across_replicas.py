"""Waits on one server for what happens on another, with notifications and, when they are lost, by polling."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from resolvers import wait_registry
from tests.builders.api_runs import create_flow_run, create_task_run, create_task_runs, set_task_run_state
from tests.builders.queued_runs import create_many, run_under_lease
from tests.client import TIMEOUT_SECONDS
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server
from tests.waiting_requests import WAIT_SECONDS, count_waiting, result_of, start_waiting

# A SQLite database has a single server.
pytestmark = POSTGRESQL_ONLY

POLL_SECONDS = 20.0
SET_COMPLETED = "UPDATE task_run SET state_type = 'COMPLETED' WHERE id = $1"
SET_CANCELLING = "UPDATE task_run SET state_type = 'CANCELLING' WHERE id = $1"
END_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def ids_of(result: dict[str, Any]) -> list[str]:
    """Return the ids of the runs of a result that has nothing else."""
    assert (result["notFound"], result["hasMore"]) == ([], False)
    return [run["id"] for run in result["ended"]]


async def execute_sql(database_url: str, statement: str, *values: str) -> None:
    """Change the database as another server does, but without its notification."""
    async with database_connection(database_url) as connection:
        await connection.execute(statement, *values)


async def test_a_run_that_ends_at_one_server_ends_a_wait_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    id = await create_task_run(here.client, "RUNNING")
    waiting = await start_waiting(there, "EndedTaskRuns", ids=[id])

    await set_task_run_state(here.client, id, "COMPLETED")

    # The clocks stand still, so no poll can have found the run.
    assert ids_of(await result_of(waiting)) == [id]


async def test_a_run_deleted_at_one_server_ends_a_wait_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    id = await create_task_run(here.client)
    waiting = await start_waiting(there, "EndedTaskRuns", ids=[id])

    await here.client.execute("DeleteTaskRun", id=id)

    assert (await result_of(waiting))["notFound"] == [id]


async def test_a_flow_run_deleted_at_one_server_ends_a_wait_for_its_run_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    flow_run = await create_flow_run(here.client)
    id = await create_task_run(here.client, flowRunId=flow_run)
    waiting = await start_waiting(there, "EndedTaskRuns", ids=[id])

    await here.client.execute("DeleteFlowRun", id=flow_run)

    assert (await result_of(waiting))["notFound"] == [id]


async def test_a_thousand_runs_that_end_together_end_all_waits_at_another_server(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    ids = [id for _ in range(2) for id in await create_task_runs(here.client, 500, "RUNNING")]
    watched = ids[::100]
    waiting = [
        await start_waiting(there, "EndedTaskRuns", ids=[id], count=number + 1) for number, id in enumerate(watched)
    ]

    inputs = [{"taskRunId": id, "state": {"type": "COMPLETED"}} for id in ids]
    await here.client.execute("SetTaskRunStates", inputs=inputs)

    assert [ids_of(await result_of(each)) for each in waiting] == [[id] for id in watched]


async def test_a_cancel_request_at_one_server_ends_a_wait_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    await create_many(here.client, 1)
    id, lease_id = await run_under_lease(here.client, "RUNNING", lease_seconds=3600)
    waiting = await start_waiting(there, "LeaseSignals", leaseIds=[lease_id])

    await set_task_run_state(here.client, id, "CANCELLING")

    assert await result_of(waiting) == {"leases": [{"leaseId": lease_id, "status": "HELD", "cancelRequested": True}]}


async def test_a_lease_that_ends_at_one_server_ends_a_wait_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    await create_many(here.client, 1)
    _, lease_id = await run_under_lease(here.client, "RUNNING", lease_seconds=3600)
    waiting = await start_waiting(there, "LeaseSignals", leaseIds=[lease_id])

    await here.client.execute("ReleaseTaskRuns", leaseIds=[lease_id])

    assert await result_of(waiting) == {"leases": [{"leaseId": lease_id, "status": "LOST", "cancelRequested": False}]}


async def test_an_end_whose_notification_was_lost_is_found_by_the_next_poll(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server:
        id = await create_task_run(server.client, "RUNNING")
        waiting = await start_waiting(server, "EndedTaskRuns", ids=[id])
        await execute_sql(database_url, SET_COMPLETED, id)

        server.clock.advance(POLL_SECONDS)

        assert ids_of(await result_of(waiting)) == [id]


async def test_a_cancel_request_whose_notification_was_lost_is_found_by_the_next_poll(
    database_url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server:
        await create_many(server.client, 1)
        id, lease_id = await run_under_lease(server.client, "RUNNING", lease_seconds=3600)
        waiting = await start_waiting(server, "LeaseSignals", leaseIds=[lease_id])
        await execute_sql(database_url, SET_CANCELLING, id)

        server.clock.advance(POLL_SECONDS)

        assert await result_of(waiting) == {
            "leases": [{"leaseId": lease_id, "status": "HELD", "cancelRequested": True}]
        }


async def test_one_poll_looks_for_all_ids_of_the_server_in_chunks(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_registry, "MAX_CHECKED_IDS", 4)
    async with run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server:
        ids = await create_task_runs(server.client, 6, "RUNNING")
        registry = server.services.waits.ended_task_runs
        find, polled = registry._find, list[list[str]]()

        def record(connection: Any, chunk: Any) -> Any:
            polled.append(list(chunk))
            return find(connection, chunk)

        monkeypatch.setattr(registry, "_find", record)
        waiting = [
            await start_waiting(server, "EndedTaskRuns", ids=[ids[0], id], count=number + 1)
            for number, id in enumerate(ids[1:])
        ]
        await execute_sql(database_url, SET_COMPLETED, ids[5])

        server.clock.advance(POLL_SECONDS)
        result = await result_of(waiting[4])

        assert polled == [ids[:4], ids[4:]]
        assert ids_of(result) == [ids[5]]
        assert count_waiting(server) == 4
        server.clock.advance(WAIT_SECONDS - POLL_SECONDS)
        assert [ids_of(await result_of(each)) for each in waiting[:4]] == [[]] * 4


async def test_ends_are_found_after_the_connection_for_notifications_was_lost(
    replicas: tuple[RunningServer, RunningServer], database_url: str
) -> None:
    server, _ = replicas
    id = await create_task_run(server.client, "RUNNING")
    waiting = await start_waiting(server, "EndedTaskRuns", ids=[id])
    await execute_sql(database_url, SET_COMPLETED, id)

    async def let_failed_checks_be_repeated() -> None:
        while True:
            await server.clock.wait_for_waiter(wait_registry.RETRY_SECONDS)
            server.clock.advance(wait_registry.RETRY_SECONDS)

    advancing = asyncio.create_task(let_failed_checks_be_repeated())
    try:
        await execute_sql(database_url, END_CONNECTIONS)

        assert ids_of(await asyncio.wait_for(waiting, TIMEOUT_SECONDS)) == [id]
    finally:
        advancing.cancel()
