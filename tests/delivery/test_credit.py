"""Credit: however a delivery ends, its worker can go on."""

from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.serving import Serving


async def test_reporting_with_a_lease_that_has_run_out_returns_its_credit(server: Serving) -> None:
    client = server.client
    async with client.socket() as slow:
        await slow.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        first = await create_scheduled(client)
        (delivery,) = await slow.deliveries(1)
        server.clock.advance(30)
        await server.sweep()

        outcome = await client.ask("SetTaskRunState", id=first, leaseId=delivery["leaseId"], state={"type": "RUNNING"})

        assert outcome["status"] == "ABORT"
        assert run_ids(await slow.deliveries(1)) == [first]


async def test_an_event_is_no_larger_than_clients_take_and_the_rest_follows(server: Serving) -> None:
    client = server.client
    inputs = [{"taskKey": "t", "parameters": "x" * 20_000, "state": {"type": "SCHEDULED"}}] * 30
    payloads = await client.ask("CreateTaskRuns", inputs=inputs)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=30)
        first = await socket.event()
        rest = await socket.deliveries(30 - len(first))

    assert len(first) == 12
    assert run_ids(first + rest) == [payload["taskRun"]["id"] for payload in payloads]


async def test_workers_of_one_key_take_turns_also_from_claim_to_claim(server: Serving) -> None:
    client = server.client
    async with client.socket() as one, client.socket() as other:
        await one.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await other.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await server.clock.waiters(15, 2)
        for _ in range(2):
            (id,) = await create_many(client, 1)
            assert run_ids(await one.deliveries(1)) == [id]
            (id,) = await create_many(client, 1)
            assert run_ids(await other.deliveries(1)) == [id]


async def test_what_a_second_delivery_tells_of_a_run_is_read_afresh(server: Serving) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    query = """subscription { scheduledTaskRuns(taskKeys: ["t"]) {
      leaseId attempt taskRun { states { name } queueEntry { attempt } } } }"""
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
        (first,) = await socket.deliveries(1)
        await client.ask("SetTaskRunState", id=id, state={"type": "SCHEDULED", "name": "Again"})
        (second,) = await socket.deliveries(1)

    told = [
        ([state["name"] for state in each["taskRun"]["states"]], each["taskRun"]["queueEntry"]["attempt"])
        for each in (first, second)
    ]
    assert told == [(["Scheduled"], 1), (["Scheduled", "Again"], 2)]
