"""A failed background run with retries left is requeued for any worker, due after its retry delay."""

from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.serving import RunningServer


async def test_a_failed_run_loses_its_lease_and_is_redelivered_after_its_delay(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [20]})
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (first,) = await socket.deliveries(1)
        lease = first["leaseId"]
        await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})

        outcome = await client.execute(
            "SetTaskRunState", id=id, leaseId=lease, state={"type": "FAILED", "message": "no"}
        )

        assert (outcome["status"], outcome["state"]["name"], outcome["state"]["message"]) == (
            "REJECT",
            "AwaitingRetry",
            "no",
        )
        (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
        assert renewed["status"] == "LOST"
        entry = (await client.execute("GetTaskRun", id=id))["queueEntry"]
        assert (entry["availableAt"], entry["isRetry"]) == ("2030-01-01T12:00:20.000000Z", True)

        server.clock.advance(20)

        (again,) = await socket.deliveries(1)
        assert (again["taskRun"]["id"], again["attempt"], again["taskRun"]["runCount"]) == (id, 2, 1)


async def test_a_failure_without_retries_ends_the_run_and_returns_its_credit(server: RunningServer) -> None:
    client = server.client
    first, second = await create_many(client, 2)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        (delivery,) = await socket.deliveries(1)
        for type in ("RUNNING", "FAILED"):
            await client.execute("SetTaskRunState", id=first, leaseId=delivery["leaseId"], state={"type": type})

        assert run_ids(await socket.deliveries(1)) == [second]
    run = await client.execute("GetTaskRun", id=first)
    assert (run["stateType"], run["queueEntry"]) == ("FAILED", None)
