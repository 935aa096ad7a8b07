"""cancelTaskRuns: cancels the task runs that match a filter and have not ended."""

from typing import Any

from tests.builders.api_runs import (
    create_flow_run,
    create_task_run,
    read_slot_holders,
    set_states_in_turn,
    set_task_run_state,
)
from tests.builders.bulk_changes import change_runs, changed, read_states, rejection
from tests.builders.queued_runs import create_many, create_scheduled, run_under_lease
from tests.client import Client
from tests.serving import RunningServer
from tests.state_change_followers import follow_state_changes, receive_events, states_of

HELD = "The task run is CANCELLING already. Its worker has been asked to stop."


async def read_queue(client: Client) -> dict[str, Any]:
    (queue,) = await client.execute("ListTaskQueues", taskKeys=["t"])
    return {name: queue[name] for name in ("scheduled", "retry", "leased")}


async def test_queued_runs_are_cancelled_and_leave_the_queue(client: Client) -> None:
    ids = await create_many(client, 3)

    payload = await change_runs(client, "CancelTaskRuns", message="No longer needed")

    assert payload == changed(3)
    assert await read_states(client, ids) == ["CANCELLED"] * 3
    assert await read_queue(client) == {"scheduled": 0, "retry": 0, "leased": 0}
    assert (await client.execute("GetTaskRun", id=ids[0]))["state"]["message"] == "No longer needed"


async def test_only_runs_that_match_the_filter_are_cancelled(client: Client) -> None:
    matching = await create_scheduled(client, "a")
    other = await create_scheduled(client, "b")

    payload = await change_runs(client, "CancelTaskRuns", filter={"taskKey": {"in": ["a"]}})

    assert payload == changed(1)
    assert await read_states(client, [matching, other]) == ["CANCELLED", "SCHEDULED"]


async def test_runs_that_have_ended_are_not_examined(client: Client) -> None:
    ids = [await create_task_run(client) for _ in range(4)]
    for id, state in zip(ids, ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"], strict=True):
        await set_states_in_turn(client, id, state)

    payload = await client.execute("CancelTaskRuns", filter={"id": {"isNull": False}})

    assert payload == {**changed(0), "endCursor": None}
    assert await read_states(client, ids) == ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


async def test_a_run_that_a_worker_holds_becomes_cancelling(client: Client) -> None:
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")

    payload = await change_runs(client, "CancelTaskRuns", message="Stop")

    assert payload == changed(1)
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["state"]["message"]) == ("CANCELLING", "Stop")
    (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    assert (renewed["status"], renewed["cancelRequested"]) == ("HELD", True)


async def test_a_run_that_is_already_cancelling_is_rejected_and_keeps_its_state(client: Client) -> None:
    id = await create_scheduled(client)
    await run_under_lease(client, "RUNNING")
    await change_runs(client, "CancelTaskRuns", message="first")
    before = await client.execute("GetTaskRun", id=id)

    payload = await change_runs(client, "CancelTaskRuns", message="second")

    assert payload == changed(0, rejection(id, HELD))
    after = await client.execute("GetTaskRun", id=id)
    assert (after["state"], after["states"]) == (before["state"], before["states"])


async def test_a_delivery_that_was_not_acknowledged_loses_its_lease(client: Client) -> None:
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        (delivery,) = await socket.deliveries(1)

        assert await change_runs(client, "CancelTaskRuns") == changed(1)

        assert await read_states(client, [id]) == ["CANCELLED"]
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]]))["leases"]
        assert result["status"] == "LOST"
        # The credit has returned: the subscriber receives another run.
        following = await create_scheduled(client)
        assert [each["taskRun"]["id"] for each in await socket.deliveries(1)] == [following]


async def test_runs_that_wait_pause_or_await_a_retry_are_cancelled_at_once(client: Client) -> None:
    pending = await create_task_run(client)
    paused = await create_task_run(client)
    await set_task_run_state(client, paused, "PAUSED")
    awaiting = await create_scheduled(client, retryPolicy={"retries": 1})
    await set_task_run_state(client, awaiting, "RUNNING")
    assert (await set_task_run_state(client, awaiting, "FAILED"))["state"]["name"] == "AwaitingRetry"

    assert await change_runs(client, "CancelTaskRuns") == changed(3)
    assert await read_states(client, [pending, paused, awaiting]) == ["CANCELLED"] * 3


async def test_task_runs_of_flow_runs_are_cancelled_at_once(client: Client) -> None:
    flow_run = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, flowRunId=flow_run)
    await set_states_in_turn(client, id, "RUNNING")

    assert await change_runs(client, "CancelTaskRuns") == changed(1)
    assert await read_states(client, [id]) == ["CANCELLED"]


async def test_an_auto_acknowledged_run_is_cancelled_and_cannot_start(client: Client) -> None:
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        await socket.deliveries(1)

    assert await change_runs(client, "CancelTaskRuns") == changed(1)
    assert (await set_task_run_state(client, id, "RUNNING"))["status"] == "REJECT"
    assert await read_states(client, [id]) == ["CANCELLED"]


async def test_cancelled_runs_free_their_slots_for_runs_that_wait(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="one", limit=1)
    flow_run = await create_flow_run(client, "RUNNING")
    holder = await create_task_run(client, flowRunId=flow_run, tags=["one"])
    await set_states_in_turn(client, holder, "RUNNING")
    waiting = await create_scheduled(client, tags=["one"])
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await client.execute("ListTaskQueues", taskKeys=["t"])
        assert await read_slot_holders(client, "one") == [holder]

        assert await change_runs(client, "CancelTaskRuns", filter={"id": {"in": [holder]}}) == changed(1)

        assert await read_slot_holders(client, "one") == []
        assert [each["taskRun"]["id"] for each in await socket.deliveries(1)] == [waiting]


async def test_a_freed_slot_wakes_a_run_that_is_not_cancelled(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="one", limit=1)
    flow_run = await create_flow_run(client, "RUNNING")
    holder = await create_task_run(client, flowRunId=flow_run, tags=["one"])
    await set_states_in_turn(client, holder, "RUNNING")
    waiting = [await create_scheduled(client, tags=["one"]) for _ in range(4)]
    assert await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=10) == {"deliveries": []}

    # The first two of the waiting runs are cancelled together with the run that holds the slot.
    assert await change_runs(client, "CancelTaskRuns", limit=3) == changed(3, has_more=True)

    claimed = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=10))["deliveries"]
    assert [each["taskRun"]["id"] for each in claimed] == [waiting[2]]


async def test_followers_of_state_changes_see_each_cancellation(server: RunningServer) -> None:
    ids = await create_many(server.client, 2)
    async with follow_state_changes(server) as socket:
        await change_runs(server.client, "CancelTaskRuns")

        events = await receive_events(socket, 2)

    assert sorted(states_of(events)) == sorted((id, "CANCELLED") for id in ids)


async def test_cancelling_again_changes_nothing(client: Client) -> None:
    (id,) = await create_many(client, 1)
    await change_runs(client, "CancelTaskRuns")
    before = await client.execute("GetTaskRun", id=id)

    assert await change_runs(client, "CancelTaskRuns") == changed(0)
    assert (await client.execute("GetTaskRun", id=id))["states"] == before["states"]
