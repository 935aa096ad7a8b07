"""Credit: the deliveries that a subscription may hold unacknowledged, returned however a delivery ends."""

from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.serving import RunningServer


async def test_reporting_under_an_expired_lease_returns_its_credit(server: RunningServer) -> None:
    client = server.client
    async with client.socket() as slow:
        await slow.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        first = await create_scheduled(client)
        (delivery,) = await slow.deliveries(1)
        server.clock.advance(30)
        await server.sweep()

        outcome = await client.execute(
            "SetTaskRunState", id=first, leaseId=delivery["leaseId"], state={"type": "RUNNING"}
        )

        assert outcome["status"] == "ABORT"
        assert run_ids(await slow.deliveries(1)) == [first]


async def test_an_event_stays_within_one_mebibyte_and_the_rest_follows(server: RunningServer) -> None:
    client = server.client
    inputs = [{"taskKey": "t", "parameters": "x" * 20_000, "state": {"type": "SCHEDULED"}}] * 30
    payloads = (await client.execute("CreateTaskRuns", inputs=inputs))["results"]

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=30)
        first = await socket.event()
        rest = await socket.deliveries(30 - len(first))

    assert len(first) == 12
    assert run_ids(first + rest) == [payload["taskRun"]["id"] for payload in payloads]


async def test_workers_of_one_key_take_turns_across_claims(server: RunningServer) -> None:
    client = server.client
    async with client.socket() as one, client.socket() as other:
        await one.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await other.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await server.clock.wait_for_waiters(15, 2)
        for _ in range(2):
            (id,) = await create_many(client, 1)
            assert run_ids(await one.deliveries(1)) == [id]
            (id,) = await create_many(client, 1)
            assert run_ids(await other.deliveries(1)) == [id]


async def test_a_redelivery_contains_the_current_data_of_the_run(server: RunningServer) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    query = """subscription { scheduledTaskRuns(taskKeys: ["t"]) {
      leaseId attempt taskRun { states { name } queueEntry { attempt } } } }"""
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
        (first,) = await socket.deliveries(1)
        await client.execute("SetTaskRunState", id=id, state={"type": "SCHEDULED", "name": "Again"})
        (second,) = await socket.deliveries(1)

    found = [
        ([state["name"] for state in each["taskRun"]["states"]], each["taskRun"]["queueEntry"]["attempt"])
        for each in (first, second)
    ]
    assert found == [(["Scheduled"], 1), (["Scheduled", "Again"], 2)]
