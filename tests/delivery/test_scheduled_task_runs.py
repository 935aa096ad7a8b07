"""`scheduledTaskRuns`: what is delivered to a worker, and how many runs at a time."""

import pytest

from tests.builders.api_runs import create_flow_run
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.serving import RunningServer


async def test_a_queued_run_is_delivered_with_its_parameters_and_a_lease(client: Client) -> None:
    id = await create_scheduled(client, "send-mail", name="first", parameters={"to": "ada"})

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["send-mail"], workerName="w1")
        (delivery,) = await socket.deliveries(1)

    lease_id = delivery.pop("leaseId")
    assert delivery == {
        "leaseExpiresAt": "2030-01-01T12:00:30.000000Z",
        "attempt": 1,
        "taskRun": {
            "id": id,
            "name": "first",
            "taskKey": "send-mail",
            "parameters": {"to": "ada"},
            "stateType": "SCHEDULED",
            "runCount": 0,
            "traceParent": None,
        },
    }
    assert lease_id != id


async def test_a_run_created_during_the_subscription_is_delivered(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        id = await create_scheduled(client)

        assert run_ids(await socket.deliveries(1)) == [id]


async def test_only_scheduled_background_runs_of_the_named_keys_are_delivered(client: Client) -> None:
    await create_scheduled(client, "t", flowRunId=await create_flow_run(client))
    await create_scheduled(client, "other")
    await client.execute("CreateTaskRun", input={"taskKey": "t"})
    wanted = await create_scheduled(client, "t")

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        assert run_ids(await socket.deliveries(1)) == [wanted]


async def test_at_most_prefetch_runs_are_unacknowledged_and_acknowledging_brings_the_next(client: Client) -> None:
    ids = await create_many(client, 5)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await socket.deliveries(2)
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(first)[:1]))["leases"]
        second = await socket.deliveries(1)

    assert run_ids(first + second) == ids[:3]
    assert result == {
        "leaseId": first[0]["leaseId"],
        "status": "HELD",
        "leaseExpiresAt": "2030-01-01T12:01:00.000000Z",
        "cancelRequested": False,
    }


async def test_setting_a_state_with_the_lease_acknowledges_it(server: RunningServer) -> None:
    client = server.client
    ids = await create_many(client, 2)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1, leaseSeconds=90)
        (first,) = await socket.deliveries(1)
        state = {"type": "PENDING"}
        outcome = await client.execute("SetTaskRunState", id=ids[0], leaseId=first["leaseId"], state=state)
        second = await socket.deliveries(1)

    assert outcome["status"] == "ACCEPT"
    assert run_ids(second) == [ids[1]]
    entry = (await client.execute("GetTaskRun", id=ids[0]))["queueEntry"]
    assert entry["leaseExpiresAt"] == "2030-01-01T12:01:30.000000Z"


async def test_deleting_a_delivered_run_returns_its_credit_and_loses_the_lease(server: RunningServer) -> None:
    client = server.client
    ids = await create_many(client, 2)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        (first,) = await socket.deliveries(1)
        await client.execute("DeleteTaskRun", id=ids[0])
        second = await socket.deliveries(1)
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]]))["leases"]

    assert run_ids(second) == [ids[1]]
    assert (result["status"], result["leaseExpiresAt"]) == ("LOST", None)


async def test_each_run_is_delivered_to_one_of_several_workers(client: Client) -> None:
    ids = await create_many(client, 10)

    async with client.socket() as one, client.socket() as other:
        await one.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=5)
        await other.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=5)
        delivered = run_ids(await one.deliveries(5)) + run_ids(await other.deliveries(5))

    assert sorted(delivered) == sorted(ids)


async def test_two_subscriptions_on_one_socket_have_separate_credit(client: Client) -> None:
    ids = await create_many(client, 3)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        delivered = await socket.deliveries(2)

    assert run_ids(delivered) == ids[:2]


async def test_an_auto_acknowledged_run_leaves_the_queue_and_is_never_redelivered(client: Client) -> None:
    ids = await create_many(client, 3)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        delivered = await socket.deliveries(3)
        runs = [await client.execute("GetTaskRun", id=id) for id in ids]
    last = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        later = await socket.deliveries(1)

    assert run_ids(delivered) == ids
    assert [(run["stateType"], run["queueEntry"]) for run in runs] == [("SCHEDULED", None)] * 3
    assert run_ids(later) == [last]


async def test_an_idle_subscription_receives_an_empty_keepalive_event(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await server.clock.wait_for_waiter(15)
        server.clock.advance(15)

        assert await socket.event() == []


async def test_a_cancelled_run_leaves_the_queue_and_its_lease_is_lost(client: Client) -> None:
    cancelled, kept = await create_many(client, 2)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first, _ = await socket.deliveries(2)
        await client.execute("SetTaskRunState", id=cancelled, state={"type": "CANCELLED"})
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]]))["leases"]

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        later = await socket.deliveries(1)

    assert result["status"] == "LOST"
    assert run_ids(later) == [kept]


async def test_a_rescheduled_run_is_queued_and_a_claimed_one_leaves_the_queue(client: Client) -> None:
    (id,) = await create_many(client, 1)

    await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"})
    claimed = await client.execute("GetTaskRun", id=id)
    await client.execute("SetTaskRunState", id=id, state={"type": "SCHEDULED"})
    rescheduled = await client.execute("GetTaskRun", id=id)

    assert claimed["queueEntry"] is None
    assert rescheduled["queueEntry"]["availableAt"] == "2030-01-01T12:00:00.000000Z"


async def test_a_run_is_created_delivered_executed_and_completed(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    id = await create_scheduled(client, parameters=[1, 2])

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], workerName="w1")
        (delivery,) = await socket.deliveries(1)
        lease = delivery["leaseId"]
        await client.execute("AcknowledgeTaskRuns", leaseIds=[lease])
        for type, seconds in (("PENDING", 1), ("RUNNING", 5)):
            await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": type})
            clock.advance(seconds)
        held = await client.execute("GetTaskRun", id=id)
        state = {"type": "COMPLETED", "data": {"sum": 3}}
        await client.execute("SetTaskRunState", id=id, leaseId=lease, state=state)
    run = await client.execute("GetTaskRun", id=id)

    assert held["queueEntry"]["workerName"] == "w1"
    assert [(state["type"], state["timestamp"][14:19]) for state in run["states"]] == [
        ("SCHEDULED", "00:00"),
        ("PENDING", "00:00"),
        ("RUNNING", "00:01"),
        ("COMPLETED", "00:06"),
    ]
    assert run["state"]["data"] == {"sum": 3}
    assert (run["runCount"], run["totalRunTimeSeconds"], run["queueEntry"]) == (1, 5.0, None)
    assert (run["startTime"], run["endTime"]) == ("2030-01-01T12:00:01.000000Z", "2030-01-01T12:00:06.000000Z")


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"taskKeys": []}, "taskKeys"),
        ({"taskKeys": ["t"] * 1001}, "taskKeys"),
        ({"prefetch": 0}, "prefetch"),
        ({"prefetch": 1001}, "prefetch"),
        ({"leaseSeconds": 0.5}, "leaseSeconds"),
        ({"leaseSeconds": 86401}, "leaseSeconds"),
    ],
)
async def test_an_invalid_argument_is_named_in_the_error_and_leases_nothing(
    client: Client, wrong: dict[str, object], argument: str
) -> None:
    id = await create_scheduled(client)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", **{"taskKeys": ["t"], **wrong})
        message = await socket.receive()

    (error,) = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert error["extensions"]["argument"].startswith(argument)
    assert (await client.execute("GetTaskRun", id=id))["queueEntry"]["attempt"] == 0
