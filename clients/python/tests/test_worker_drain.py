"""The end of a worker, with scripted executors and a real server."""

import asyncio
from collections.abc import Callable

from faulty_proxy import faulty_proxy
from runyard_client.testing.server import RunyardServer
from scripted_executors import ScriptedLink, client_of, scripted_worker

DRAINED = {"release": 0.0}


async def test_a_drain_lets_runs_finish_and_claims_nothing(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("finish")
    link = ScriptedLink(key, capacity=1)
    async with client_of(server.url) as client, scripted_worker(server.url, link) as worker:
        first_id, second_id = await client.create(key, 2)
        [start] = await link.wait_for("start")
        worker.coordinator.request_stop()
        await link.wait_for("drain")
        link.finish(start["lease"])
        code = await worker.exit_code()
        first, second = sorted(
            [await client.read(first_id), await client.read(second_id)], key=lambda run: run["runCount"]
        )

    assert code == 0
    assert link.received("cancel") == []
    assert (first["state"]["type"], second["state"]["type"]) == ("SCHEDULED", "COMPLETED")


async def test_runs_that_outlast_the_drain_are_stopped_and_released(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("outlast")
    link = ScriptedLink(key, capacity=4)
    async with client_of(server.url) as client:
        await client.create(key, 4)
        async with scripted_worker(server.url, link, drain_seconds=0.3, claim_settle_seconds=1) as worker:
            starts = await link.wait_for("start", 4)
            worker.coordinator.request_stop()
            await link.wait_for("drain")
            for start in starts[:3]:
                link.finish(start["lease"])
            [cancel] = await link.wait_for("cancel")
            link.finish(cancel["lease"], DRAINED)
            code = await worker.exit_code()
        # Another worker has it at once, and the interrupted try does not count.
        [delivery] = await client.claim(key)
        ended = await client.wait_ended(*(start["run"]["id"] for start in starts[:3]))

    assert code == 0
    assert cancel == {"type": "cancel", "lease": starts[3]["lease"], "reason": "drained"}
    assert delivery["taskRun"]["id"] == starts[3]["run"]["id"]
    assert delivery["taskRun"]["runCount"] == 1
    assert [run["state"]["type"] for run in ended] == ["COMPLETED"] * 3


async def test_runs_that_do_not_stop_are_released_after_their_executor_was_closed(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("stuck")
    link = ScriptedLink(key)
    async with client_of(server.url) as client:
        [run_id] = await client.create(key)
        async with scripted_worker(
            server.url, link, drain_seconds=0, stop_seconds=0.1, claim_settle_seconds=1
        ) as worker:
            await link.wait_for("start")
            code = await worker.stop()
        [delivery] = await client.claim(key)

    assert code == 0
    assert link.is_closed
    assert delivery["taskRun"]["id"] == run_id


async def test_a_second_request_releases_at_once(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("second")
    link = ScriptedLink(key)
    async with client_of(server.url) as client:
        [run_id] = await client.create(key)
        async with scripted_worker(server.url, link, drain_seconds=3_600, claim_settle_seconds=1) as worker:
            [start] = await link.wait_for("start")
            worker.coordinator.request_stop()
            await link.wait_for("drain")
            worker.coordinator.request_stop()
            await link.wait_for("cancel", reason="drained")
            link.finish(start["lease"], DRAINED)
            code = await worker.exit_code()
        [delivery] = await client.claim(key)

    assert code == 0
    assert delivery["taskRun"]["id"] == run_id


async def test_runs_that_an_exchange_claims_during_the_drain_are_released(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("claimed")
    link = ScriptedLink(key, capacity=1)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        await client.create(key, 2)
        async with scripted_worker(proxy.url, link) as worker:
            [start] = await link.wait_for("start")
            with proxy.hold("ExchangeTaskRuns") as hold:
                link.finish(start["lease"])
                await hold.arrived.wait()
                worker.coordinator.request_stop()
                await link.wait_for("drain")
            code = await worker.exit_code()
        [delivery] = await client.claim(key)
        await client.wait_ended(start["run"]["id"])

    assert code == 0
    assert len(link.received("start")) == 1
    assert proxy.count("ReleaseTaskRuns") == 1
    assert delivery["taskRun"]["id"] != start["run"]["id"]
    assert delivery["taskRun"]["runCount"] == 1


async def test_a_claim_that_waits_ends_with_the_drain(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("waiting")
    link = ScriptedLink(key)
    async with faulty_proxy(server.url) as proxy, scripted_worker(proxy.url, link) as worker:
        claim = await proxy.next_request("ClaimTaskRuns")
        code = await worker.stop()
        async with asyncio.timeout(20):
            await claim.ended.wait()

    assert code == 0
    assert claim.status is None


async def test_a_lost_report_is_repeated_during_the_drain(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("repeat")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link) as worker:
            [start] = await link.wait_for("start")
            proxy.lose_responses("ExchangeTaskRuns", times=2)
            worker.coordinator.request_stop()
            await link.wait_for("drain")
            link.finish(start["lease"])
            code = await worker.exit_code()
        run = await client.read(run_id)

    assert code == 0
    assert proxy.count("ExchangeTaskRuns") == 3
    assert (run["state"]["type"], run["runCount"]) == ("COMPLETED", 1)


async def test_a_worker_that_cannot_reach_the_server_exits_with_1(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("untold")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link, drain_seconds=0, tell_seconds=0.5) as worker:
            [start] = await link.wait_for("start")
            await proxy.disconnect()
            link.finish(start["lease"])
            code = await worker.stop()
        run = await client.read(run_id)

    assert code == 1
    assert run["state"]["type"] == "RUNNING"


async def test_runs_that_a_young_claim_gets_during_the_drain_are_released(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("young")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        async with scripted_worker(proxy.url, link, claim_settle_seconds=20) as worker:
            await proxy.next_request("ClaimTaskRuns")
            worker.coordinator.request_stop()
            await link.wait_for("drain")
            [run_id] = await client.create(key)
            code = await worker.exit_code()
        [delivery] = await client.claim(key)

    assert code == 0
    assert link.received("start") == []
    assert (delivery["taskRun"]["id"], delivery["taskRun"]["runCount"]) == (run_id, 1)


async def test_a_run_that_the_drain_releases_is_not_claimed_by_the_same_worker(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("again")
    link = ScriptedLink(key, capacity=2)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        async with scripted_worker(proxy.url, link, drain_seconds=0, claim_settle_seconds=1) as worker:
            await proxy.next_request("ClaimTaskRuns")
            [run_id] = await client.create(key)
            [start] = await link.wait_for("start")
            # A claim for the other slot is in flight.
            while proxy.count("ClaimTaskRuns") < 2:
                await proxy.next_request("ClaimTaskRuns")
            worker.coordinator.request_stop()
            await link.wait_for("cancel")
            link.finish(start["lease"], DRAINED)
            code = await worker.exit_code()
        [delivery] = await client.claim(key)

    assert code == 0
    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (run_id, 2)
