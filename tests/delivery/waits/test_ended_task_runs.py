"""`endedTaskRuns`: waiting for the end of task runs without polling."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from resolvers.flow_run_sweeper import FIRST_TIMESTAMP, MAX_BATCH_SIZE, SweepRequest, end_orphaned_task_runs
from schema.reads import ended_task_runs
from tests.blocking_work import BlockingWork
from tests.builders.api_runs import (
    create_deployment,
    create_flow,
    create_flow_run,
    create_task_run,
    create_task_runs,
    set_flow_run_state,
    set_task_run_state,
)
from tests.builders.queued_runs import create_many, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.waiting_requests import WAIT_SECONDS, result_of, start_waiting, wait_until_none_waits

UNKNOWN = ["00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"]
NOTHING: dict[str, Any] = {"ended": [], "notFound": [], "hasMore": False}
ALL_STATE_TYPES = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def found(*runs: tuple[str, str], not_found: list[str] | None = None) -> dict[str, Any]:
    """Return a result with these runs, each given by its id and state type, without their other fields."""
    return {"ended": list(runs), "notFound": not_found or [], "hasMore": False}


def without_states(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the id and state type of each run."""
    return result | {"ended": [(run["id"], run["stateType"]) for run in result["ended"]]}


async def query_ended(client: Client, ids: list[str]) -> dict[str, Any]:
    return without_states(await client.execute("EndedTaskRuns", ids=ids))


async def start_waiting_for(server: RunningServer, *ids: str) -> "asyncio.Task[Any]":
    return await start_waiting(server, "EndedTaskRuns", ids=list(ids))


@pytest.mark.parametrize("type", ENDED)
async def test_a_run_that_has_ended_is_returned_at_once(server: RunningServer, type: str) -> None:
    id = await create_task_run(server.client, type)

    # The clock stands still: a request that waited would not return.
    result = await server.client.execute("EndedTaskRuns", ids=[id], waitSeconds=WAIT_SECONDS)

    assert result == NOTHING | {
        "ended": [
            {"id": id, "stateType": type, "stateName": type.capitalize(), "state": {"message": None, "data": None}}
        ]
    }


async def test_runs_that_have_not_ended_are_not_returned(client: Client) -> None:
    ids = [await create_task_run(client, type, flowRunId=await create_flow_run(client)) for type in ALL_STATE_TYPES]

    assert await query_ended(client, ids) == NOTHING


async def test_a_failed_run_that_is_retried_has_not_ended(server: RunningServer) -> None:
    id = await create_task_run(server.client, "RUNNING", retryPolicy={"retries": 1})
    waiting = await start_waiting_for(server, id)
    retried = await set_task_run_state(server.client, id, "FAILED")
    running = await set_task_run_state(server.client, id, "RUNNING")

    await set_task_run_state(server.client, id, "FAILED")

    assert [each["state"]["name"] for each in (retried, running)] == ["AwaitingRetry", "Retrying"]
    assert without_states(await result_of(waiting)) == found((id, "FAILED"))


async def test_a_wait_ends_as_soon_as_one_run_ends(server: RunningServer) -> None:
    first, second, third = await create_task_runs(server.client, 3, "RUNNING")
    waiting = await start_waiting_for(server, first, second, third)

    await set_task_run_state(server.client, second, "COMPLETED", message="Done", data={"answer": 42})

    assert await result_of(waiting) == NOTHING | {
        "ended": [
            {
                "id": second,
                "stateType": "COMPLETED",
                "stateName": "Completed",
                "state": {"message": "Done", "data": {"answer": 42}},
            }
        ]
    }


async def test_results_are_in_the_order_of_the_ids_and_each_only_once(client: Client) -> None:
    ids = await create_task_runs(client, 3, "COMPLETED")
    pending = await create_task_run(client)

    result = await query_ended(
        client, [ids[2], UNKNOWN[1], ids[0], pending, ids[2].upper(), UNKNOWN[0], ids[1], UNKNOWN[1]]
    )

    assert result == found(
        (ids[2], "COMPLETED"), (ids[0], "COMPLETED"), (ids[1], "COMPLETED"), not_found=[UNKNOWN[1], UNKNOWN[0]]
    )


async def test_an_unknown_id_ends_the_wait_at_once(server: RunningServer) -> None:
    id = await create_task_run(server.client, "RUNNING")

    result = await server.client.execute("EndedTaskRuns", ids=[id, UNKNOWN[0]], waitSeconds=WAIT_SECONDS)

    assert result == NOTHING | {"notFound": [UNKNOWN[0]]}


async def test_the_result_is_empty_after_the_wait_seconds(server: RunningServer) -> None:
    waiting = await start_waiting_for(server, await create_task_run(server.client))

    server.clock.advance(WAIT_SECONDS)

    assert await result_of(waiting) == NOTHING


async def test_without_ids_the_result_is_empty_after_the_wait_seconds(server: RunningServer) -> None:
    waiting = await start_waiting_for(server)

    server.clock.advance(WAIT_SECONDS)

    assert await result_of(waiting) == NOTHING


async def delete_flow_run(client: Client, ids: dict[str, str]) -> None:
    await client.execute("DeleteFlowRun", id=ids["flow_run"])


async def delete_flow(client: Client, ids: dict[str, str]) -> None:
    await client.execute("DeleteFlow", id=ids["flow"])


async def delete_deployment(client: Client, ids: dict[str, str]) -> None:
    await client.execute("DeleteDeployment", id=ids["deployment"])


async def delete_task_run(client: Client, ids: dict[str, str]) -> None:
    await client.execute("DeleteTaskRun", id=ids["task_run"])


async def delete_task_runs(client: Client, ids: dict[str, str]) -> None:
    await client.execute("DeleteTaskRuns", filter={"id": {"in": [ids["task_run"]]}})


@pytest.mark.parametrize("delete", [delete_task_run, delete_task_runs, delete_flow_run, delete_flow, delete_deployment])
async def test_a_deletion_ends_the_wait(
    server: RunningServer, delete: Callable[[Client, dict[str, str]], Awaitable[None]]
) -> None:
    client = server.client
    flow = await create_flow(client)
    deployment = await create_deployment(client, flow)
    flow_run = await create_flow_run(client, "SCHEDULED", deploymentId=deployment)
    task_run = await create_task_run(client, flowRunId=flow_run)
    waiting = await start_waiting_for(server, task_run)

    await delete(client, {"flow": flow, "deployment": deployment, "flow_run": flow_run, "task_run": task_run})

    assert await result_of(waiting) == NOTHING | {"notFound": [task_run]}


@pytest.mark.parametrize(("type", "force"), [(type, force) for type in ENDED for force in (False, True)])
async def test_every_terminal_state_ends_the_wait(server: RunningServer, type: str, *, force: bool) -> None:
    id = await create_task_run(server.client, "RUNNING")
    waiting = await start_waiting_for(server, id)

    await set_task_run_state(server.client, id, type, force=force)

    assert without_states(await result_of(waiting)) == found((id, type))


async def test_several_states_set_together_end_the_wait_with_all_of_them(server: RunningServer) -> None:
    ids = await create_task_runs(server.client, 3, "RUNNING")
    waiting = await start_waiting_for(server, *ids)
    inputs = [{"taskRunId": id, "state": {"type": "COMPLETED"}} for id in reversed(ids)]

    await server.client.execute("SetTaskRunStates", inputs=inputs)

    assert without_states(await result_of(waiting)) == found(*((id, "COMPLETED") for id in ids))


async def test_cancelling_a_queued_run_ends_the_wait(server: RunningServer) -> None:
    (id,) = await create_many(server.client, 1)
    waiting = await start_waiting_for(server, id)

    await set_task_run_state(server.client, id, "CANCELLING")

    assert without_states(await result_of(waiting)) == found((id, "CANCELLED"))


async def test_a_cached_result_ends_the_wait(server: RunningServer) -> None:
    client, details = server.client, {"cacheKey": "k"}
    await create_task_run(client, {"type": "RUNNING", "details": details})
    stored = await create_task_run(client, "RUNNING")
    await set_task_run_state(client, stored, "COMPLETED", data=1, details=details)
    id = await create_task_run(client)
    waiting = await start_waiting_for(server, id)

    await set_task_run_state(client, id, "RUNNING", details=details)

    assert without_states(await result_of(waiting)) == found((id, "COMPLETED"))


async def test_a_lost_worker_ends_the_wait(server: RunningServer) -> None:
    await create_many(server.client, 1)
    id, _ = await run_under_lease(server.client, "RUNNING", lease_seconds=5)
    waiting = await start_waiting_for(server, id)

    server.clock.advance(5)

    assert without_states(await result_of(waiting)) == found((id, "CRASHED"))


async def test_the_end_of_the_flow_run_ends_the_wait(server: RunningServer) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    id = await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
    waiting = await start_waiting_for(server, id)
    await set_flow_run_state(server.client, flow_run, "CRASHED")

    await server.services.database.write(end_orphaned_task_runs, SweepRequest(MAX_BATCH_SIZE, FIRST_TIMESTAMP))

    assert without_states(await result_of(waiting)) == found((id, "CRASHED"))


async def test_the_end_of_a_subflow_ends_the_wait_for_its_task_run(server: RunningServer) -> None:
    id = await create_task_run(server.client, "RUNNING", flowRunId=await create_flow_run(server.client, "RUNNING"))
    subflow = await create_flow_run(server.client, "RUNNING", parentTaskRunId=id)
    waiting = await start_waiting_for(server, id)

    await set_flow_run_state(server.client, subflow, "COMPLETED")

    assert without_states(await result_of(waiting)) == found((id, "COMPLETED"))


async def test_a_run_that_ends_between_the_look_and_the_wait_is_returned(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await create_task_run(server.client, "RUNNING")
    look = ended_task_runs.read_ended
    looks: list[bool] = []

    async def look_and_end(*arguments: Any) -> Any:
        result = await look(*arguments)
        looks.append(bool(result))
        if len(looks) == 1:
            await set_task_run_state(server.client, id, "COMPLETED")
        return result

    monkeypatch.setattr(ended_task_runs, "read_ended", look_and_end)

    result = await server.client.execute("EndedTaskRuns", ids=[id], waitSeconds=WAIT_SECONDS)

    assert looks == [False, True]
    assert without_states(result) == found((id, "COMPLETED"))


async def test_a_run_that_runs_again_before_it_is_read_does_not_end_the_wait(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await create_task_run(server.client, "RUNNING")
    waiting = await start_waiting_for(server, id)
    read = server.services.database.read
    has_run_again = asyncio.Event()

    async def read_and_run_again(work: Any) -> Any:
        result = await read(work)
        if isinstance(result, tuple) and result[0] == {id: True} and not has_run_again.is_set():
            await set_task_run_state(server.client, id, "RUNNING", force=True)
            has_run_again.set()
        return result

    monkeypatch.setattr(server.services.database, "read", read_and_run_again)
    await set_task_run_state(server.client, id, "FAILED")
    await asyncio.wait_for(has_run_again.wait(), TIMEOUT_SECONDS)

    await set_task_run_state(server.client, id, "COMPLETED")

    assert without_states(await result_of(waiting)) == found((id, "COMPLETED"))


async def test_many_waits_for_one_run_all_end(server: RunningServer) -> None:
    id = await create_task_run(server.client, "RUNNING")
    waiting = [await start_waiting(server, "EndedTaskRuns", ids=[id], count=number + 1) for number in range(8)]

    await set_task_run_state(server.client, id, "COMPLETED")

    assert [without_states(await result_of(each)) for each in waiting] == [found((id, "COMPLETED"))] * 8


async def test_the_end_of_another_run_does_not_end_the_wait(server: RunningServer) -> None:
    id, other = await create_task_runs(server.client, 2, "RUNNING")
    waiting = await start_waiting_for(server, id)

    await set_task_run_state(server.client, other, "COMPLETED")
    server.clock.advance(WAIT_SECONDS)

    assert await result_of(waiting) == NOTHING


@SQLITE_ONLY
async def test_waiting_costs_no_statement_and_the_end_of_a_run_two(server: RunningServer) -> None:
    id, other = await create_task_runs(server.client, 2, "RUNNING")
    async with server.record_reads() as statements:
        waiting = await start_waiting_for(server, id)
        at_first = len(statements)
        await set_task_run_state(server.client, other, "COMPLETED")
        while_waiting = len(statements) - at_first
        await set_task_run_state(server.client, id, "COMPLETED")
        await result_of(waiting)

    assert (at_first, while_waiting, len(statements) - at_first) == (1, 0, 2)


@SQLITE_ONLY
async def test_the_wait_may_exceed_the_time_limit_of_requests(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url, request_seconds=0.3) as server:
        id = await create_task_run(server.client, "RUNNING")
        waiting = await start_waiting_for(server, id)
        work = BlockingWork(is_in_loop=False)
        blocking = asyncio.create_task(server.services.database.write(work.write, None))
        await work.wait_for_started(1)
        # This request begins later than the wait, and exceeds the limit.
        refused = await server.client.execute_refused("CreateTaskRun", input={"taskKey": "t"})
        work.release()
        await blocking

        await set_task_run_state(server.client, id, "COMPLETED")

        assert refused["code"] == "UNAVAILABLE"
        assert without_states(await result_of(waiting)) == found((id, "COMPLETED"))


async def test_a_client_that_disconnects_no_longer_waits(server: RunningServer) -> None:
    waiting = await start_waiting_for(server, await create_task_run(server.client))

    waiting.cancel()
    await asyncio.wait({waiting})

    await wait_until_none_waits(server)


async def test_completing_the_operation_of_a_socket_ends_the_wait(server: RunningServer) -> None:
    id = await create_task_run(server.client)
    async with server.client.socket() as socket:
        operation = await socket.subscribe("EndedTaskRuns", ids=[id], waitSeconds=WAIT_SECONDS)
        await asyncio.wait_for(server.clock.wait_for_waiter(WAIT_SECONDS), TIMEOUT_SECONDS)

        await socket.send({"id": operation, "type": "complete"})

        await wait_until_none_waits(server)


async def test_a_stopping_server_ends_waits_with_an_empty_result(server: RunningServer) -> None:
    id, ended = await create_task_run(server.client), await create_task_run(server.client, "COMPLETED")
    waiting = await start_waiting_for(server, id)

    await server.services.drain()

    assert await result_of(waiting) == NOTHING
    again = await server.client.execute("EndedTaskRuns", ids=[id], waitSeconds=WAIT_SECONDS)
    assert again == NOTHING
    assert await query_ended(server.client, [id, ended]) == found((ended, "COMPLETED"))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("waitSeconds", -1),
        ("waitSeconds", 61),
        ("ids", [UNKNOWN[0]] * 1001),
        ("ids.1", [UNKNOWN[0], "no id"]),
    ],
)
async def test_an_invalid_argument_is_named_in_the_error(client: Client, argument: str, value: object) -> None:
    error = await client.execute_refused("EndedTaskRuns", **{"ids": UNKNOWN, argument.partition(".")[0]: value})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)


async def test_a_thousand_ids_are_accepted(client: Client) -> None:
    ids = [f"00000000-0000-7000-8000-{number:012}" for number in range(1000)]

    assert await query_ended(client, ids) == NOTHING | {"notFound": ids}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("hasMore", {"hasMore": False}),
        ("__typename notFound", {"__typename": "EndedTaskRuns", "notFound": []}),
        ("a: ended { name } b: ended { runCount }", {"a": [{"name": "r"}], "b": [{"runCount": 1}]}),
        ("ended { states { type } }", {"ended": [{"states": [{"type": "RUNNING"}, {"type": "COMPLETED"}]}]}),
        (
            "ended { name flowRun { id } queueEntry { attempt } }",
            {"ended": [{"name": "r", "flowRun": None, "queueEntry": None}]},
        ),
    ],
)
async def test_any_selection_of_the_runs_is_returned(client: Client, selection: str, expected: object) -> None:
    id = await create_task_run(client, "RUNNING", name="r")
    await set_task_run_state(client, id, "COMPLETED")
    query = f"query ($ids: [ID!]!) {{ endedTaskRuns(ids: $ids) {{ {selection} }} }}"

    response = (await client.http.post("/graphql", json={"query": query, "variables": {"ids": [id]}})).json()

    assert response == {"data": {"endedTaskRuns": expected}}
