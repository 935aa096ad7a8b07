"""`leaseSignals`: a worker learns at once that a lease is lost or that its run is being cancelled."""

import asyncio
from typing import Any

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, set_task_run_state
from tests.builders.queued_runs import create_many, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer
from tests.waiting_requests import WAIT_SECONDS, result_of, start_waiting, wait_until_none_waits

UNKNOWN = ["00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"]
NOTHING: dict[str, Any] = {"leases": []}
LEASE_SECONDS = 3600.0


def signals(*, lost: tuple[str, ...] = (), cancelled: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a result with these leases: those that are lost, then those whose runs are being cancelled."""
    return {
        "leases": [
            *({"leaseId": id, "status": "LOST", "cancelRequested": False} for id in lost),
            *({"leaseId": id, "status": "HELD", "cancelRequested": True} for id in cancelled),
        ]
    }


async def start_waiting_for(server: RunningServer, *lease_ids: str) -> "asyncio.Task[Any]":
    return await start_waiting(server, "LeaseSignals", leaseIds=list(lease_ids))


async def lease_runs(client: Client, count: int) -> list[tuple[str, str]]:
    """Create runs that are RUNNING under acknowledged leases, and return the ids of each run and its lease."""
    await create_many(client, count)
    claimed = await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=count, leaseSeconds=LEASE_SECONDS)
    leased = [(each["taskRun"]["id"], each["leaseId"]) for each in claimed["deliveries"]]
    for id, lease_id in leased:
        await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    assert len(leased) == count
    return leased


async def test_leases_that_are_held_are_not_returned(client: Client) -> None:
    leased = await lease_runs(client, 2)

    assert await client.execute("LeaseSignals", leaseIds=[lease_id for _, lease_id in leased]) == NOTHING


async def test_unknown_leases_are_lost_at_once(server: RunningServer) -> None:
    ((_, lease_id),) = await lease_runs(server.client, 1)

    # The clock stands still: a request that waited would not return.
    result = await server.client.execute(
        "LeaseSignals", leaseIds=[UNKNOWN[1], lease_id, UNKNOWN[0], UNKNOWN[1]], waitSeconds=WAIT_SECONDS
    )

    assert result == signals(lost=(UNKNOWN[1], UNKNOWN[0]))


async def test_a_cancel_request_ends_the_wait(server: RunningServer) -> None:
    leased = await lease_runs(server.client, 3)
    waiting = await start_waiting_for(server, *(lease_id for _, lease_id in leased))
    run_id, lease_id = leased[1]

    assert (await set_task_run_state(server.client, run_id, "CANCELLING"))["status"] == "ACCEPT"

    assert await result_of(waiting) == signals(cancelled=(lease_id,))


async def test_a_cancel_request_is_returned_until_the_lease_ends(client: Client) -> None:
    ((run_id, lease_id),) = await lease_runs(client, 1)
    await set_task_run_state(client, run_id, "CANCELLING")

    while_cancelling = [await client.execute("LeaseSignals", leaseIds=[lease_id]) for _ in range(2)]
    await set_task_run_state(client, run_id, "CANCELLED", lease_id=lease_id)
    afterwards = await client.execute("LeaseSignals", leaseIds=[lease_id])

    assert while_cancelling == [signals(cancelled=(lease_id,))] * 2
    assert afterwards == signals(lost=(lease_id,))


async def test_results_are_in_the_order_of_the_ids(client: Client) -> None:
    (run_id, lease_id), _ = leased = await lease_runs(client, 2)
    await set_task_run_state(client, run_id, "CANCELLING")

    result = await client.execute("LeaseSignals", leaseIds=[UNKNOWN[0], leased[1][1], lease_id])

    assert result == signals(lost=(UNKNOWN[0],), cancelled=(lease_id,))


async def test_the_time_at_which_a_lease_expires_is_returned(client: Client) -> None:
    ((run_id, lease_id),) = await lease_runs(client, 1)
    await set_task_run_state(client, run_id, "CANCELLING")
    query = "query ($ids: [ID!]!) { leaseSignals(leaseIds: $ids) { leases { leaseExpiresAt } } }"

    variables = {"ids": [lease_id, UNKNOWN[0]]}
    response = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    expiries = [{"leaseExpiresAt": "2030-01-01T13:00:00.000000Z"}, {"leaseExpiresAt": None}]
    assert response == {"data": {"leaseSignals": {"leases": expiries}}}


@pytest.mark.parametrize("type", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "SCHEDULED"])
async def test_the_end_of_a_lease_by_a_state_ends_the_wait(server: RunningServer, type: str) -> None:
    ((run_id, lease_id),) = await lease_runs(server.client, 1)
    waiting = await start_waiting_for(server, lease_id)

    await set_task_run_state(server.client, run_id, type)

    assert await result_of(waiting) == signals(lost=(lease_id,))


async def test_releasing_a_lease_ends_the_wait(server: RunningServer) -> None:
    ((_, lease_id),) = await lease_runs(server.client, 1)
    waiting = await start_waiting_for(server, lease_id)

    await server.client.execute("ReleaseTaskRuns", leaseIds=[lease_id])

    assert await result_of(waiting) == signals(lost=(lease_id,))


async def test_deleting_the_run_ends_the_wait(server: RunningServer) -> None:
    ((run_id, lease_id),) = await lease_runs(server.client, 1)
    waiting = await start_waiting_for(server, lease_id)

    await server.client.execute("DeleteTaskRun", id=run_id)

    assert await result_of(waiting) == signals(lost=(lease_id,))


@pytest.mark.parametrize("states", [(), ("PENDING",), ("RUNNING",)])
async def test_the_expiry_of_a_lease_ends_the_wait(server: RunningServer, states: tuple[str, ...]) -> None:
    await create_many(server.client, 1)
    _, lease_id = await run_under_lease(server.client, *states, lease_seconds=5)
    waiting = await start_waiting_for(server, lease_id)

    server.clock.advance(5)

    assert await result_of(waiting) == signals(lost=(lease_id,))


async def test_an_expired_lease_is_lost_before_it_is_swept(server: RunningServer) -> None:
    await create_many(server.client, 1)
    _, lease_id = await run_under_lease(server.client, "RUNNING", lease_seconds=5)
    # The sweep is scheduled for the time of the expiry; this clock is ahead of it without waking the sweeper.
    server.clock._now = server.clock._now.replace(second=5)

    result = await server.client.execute("LeaseSignals", leaseIds=[lease_id])

    assert result == signals(lost=(lease_id,))


async def test_the_end_of_a_subscription_loses_its_unacknowledged_leases(server: RunningServer) -> None:
    await create_many(server.client, 1)
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        waiting = await start_waiting_for(server, delivery["leaseId"])

    assert await result_of(waiting) == signals(lost=(delivery["leaseId"],))


async def test_waiting_neither_acknowledges_nor_renews(server: RunningServer) -> None:
    (run_id,) = await create_many(server.client, 1)
    (delivery,) = (await server.client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    before = (await server.client.execute("GetTaskRun", id=run_id))["queueEntry"]

    await server.client.execute("LeaseSignals", leaseIds=[delivery["leaseId"]])

    entry = (await server.client.execute("GetTaskRun", id=run_id))["queueEntry"]
    assert entry == before
    assert entry["leaseExpiresAt"] == delivery["leaseExpiresAt"] == "2030-01-01T12:00:30.000000Z"


async def test_renewing_and_setting_other_states_do_not_end_the_wait(server: RunningServer) -> None:
    ((run_id, lease_id),) = await lease_runs(server.client, 1)
    waiting = await start_waiting_for(server, lease_id)

    await server.client.execute("RenewTaskRunLeases", leaseIds=[lease_id], leaseSeconds=LEASE_SECONDS)
    await set_task_run_state(server.client, run_id, "RUNNING", lease_id=lease_id)
    server.clock.advance(WAIT_SECONDS)

    assert await result_of(waiting) == NOTHING


async def test_a_signal_between_the_look_and_the_wait_is_returned(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((run_id, lease_id),) = await lease_runs(server.client, 1)
    read = server.services.database.read
    looks: list[bool] = []

    async def read_and_cancel(work: Any) -> Any:
        result = await read(work)
        if result == [] and not looks:
            looks.append(True)
            await set_task_run_state(server.client, run_id, "CANCELLING")
        return result

    monkeypatch.setattr(server.services.database, "read", read_and_cancel)

    result = await server.client.execute("LeaseSignals", leaseIds=[lease_id], waitSeconds=WAIT_SECONDS)

    assert (looks, result) == ([True], signals(cancelled=(lease_id,)))


@SQLITE_ONLY
async def test_waiting_costs_no_statement_and_a_signal_one(server: RunningServer) -> None:
    ((run_id, lease_id), (other_id, _)) = await lease_runs(server.client, 2)
    async with server.record_reads() as statements:
        waiting = await start_waiting_for(server, lease_id)
        await set_task_run_state(server.client, other_id, "CANCELLING")
        await set_task_run_state(server.client, run_id, "CANCELLING")
        await result_of(waiting)

    assert len([each for each in statements if "LEFT OUTER JOIN queue_entry" in each]) == 2


async def test_a_client_that_disconnects_no_longer_waits(server: RunningServer) -> None:
    ((_, lease_id),) = await lease_runs(server.client, 1)
    waiting = await start_waiting_for(server, lease_id)

    waiting.cancel()
    await asyncio.wait({waiting})

    await wait_until_none_waits(server)


async def test_a_stopping_server_ends_waits_before_it_closes_the_socket(server: RunningServer) -> None:
    ((_, lease_id),) = await lease_runs(server.client, 1)
    async with server.client.socket() as socket:
        id = await socket.subscribe("LeaseSignals", leaseIds=[lease_id], waitSeconds=WAIT_SECONDS)
        await asyncio.wait_for(server.clock.wait_for_waiter(WAIT_SECONDS), TIMEOUT_SECONDS)

        await server.services.drain()

        result = {"id": id, "type": "next", "payload": {"data": {"leaseSignals": NOTHING}}}
        assert await socket.receive() == result
        assert await socket.receive() == {"id": id, "type": "complete"}


@pytest.mark.parametrize(
    ("argument", "value"),
    [("waitSeconds", -1), ("waitSeconds", 61), ("leaseIds", [UNKNOWN[0]] * 1001), ("leaseIds.0", ["no id"])],
)
async def test_an_invalid_argument_is_named_in_the_error(client: Client, argument: str, value: object) -> None:
    error = await client.execute_refused("LeaseSignals", **{"leaseIds": UNKNOWN, argument.partition(".")[0]: value})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)


async def test_a_task_run_of_a_flow_run_has_no_lease(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", flowRunId=await create_flow_run(client))

    assert await client.execute("LeaseSignals", leaseIds=[id]) == signals(lost=(id,))
