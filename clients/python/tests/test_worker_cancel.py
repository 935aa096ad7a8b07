"""Cancellation and progress of runs that a worker executes, with scripted executors and a real server."""

from collections.abc import Callable

from faulty_proxy import faulty_proxy
from runyard_client.testing.server import RunyardServer
from scripted_executors import ScriptedLink, client_of, scripted_worker

CANCELLED = {"state": {"type": "CANCELLED"}}


async def test_a_cancelled_run_is_stopped_and_reported(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("cancel")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link, confirm_seconds=0.1) as worker:
            [start] = await link.wait_for("start")
            await link.wait_for("renewed")
            proxy.refuse("RenewTaskRunLeases", 503, times=1_000)
            await client.cancel(run_id)
            [cancel] = await link.wait_for("cancel")
            during = await client.read(run_id)
            link.finish(start["lease"], CANCELLED)
            [run] = await client.wait_ended(run_id)
            assert await worker.stop() == 0

    assert cancel == {"type": "cancel", "lease": start["lease"], "reason": "cancelled"}
    assert during["state"]["type"] == "CANCELLING"
    assert run["state"]["type"] == "CANCELLED"


async def test_a_result_that_was_faster_than_the_cancellation_is_kept(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("faster")
    link = ScriptedLink(key)
    async with client_of(server.url) as client:
        [run_id] = await client.create(key)
        async with scripted_worker(server.url, link, confirm_seconds=0.1):
            [start] = await link.wait_for("start")
            await link.wait_for("renewed")
            await client.cancel(run_id)
            await link.wait_for("cancel")
            link.finish(start["lease"])
            [run] = await client.wait_ended(run_id)

    assert (run["state"]["type"], run["state"]["data"]) == ("COMPLETED", {"result": 1})


async def test_a_run_that_was_not_confirmed_is_cancelled_at_once(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("unconfirmed")
    link = ScriptedLink(key)
    async with client_of(server.url) as client:
        [run_id] = await client.create(key)
        async with scripted_worker(server.url, link, confirm_seconds=1) as worker:
            [start] = await link.wait_for("start")
            await client.cancel(run_id)
            [run] = await client.wait_ended(run_id)
            [cancel] = await link.wait_for("cancel")
            link.finish(start["lease"], {"drop": True})
            assert await worker.stop() == 0

    assert run["state"]["type"] == "CANCELLED"
    assert cancel["reason"] == "lease_lost"


async def test_a_deleted_run_is_stopped_and_not_reported(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("deleted")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link, confirm_seconds=0.1) as worker:
            [start] = await link.wait_for("start")
            await link.wait_for("renewed")
            await client.transport.execute("DeleteTaskRun", {"id": run_id})
            [cancel] = await link.wait_for("cancel")
            link.finish(start["lease"], {"drop": True})
            assert await worker.stop() == 0

    assert cancel["reason"] == "lease_lost"
    assert proxy.count("ExchangeTaskRuns") == 0


async def test_a_run_that_starts_later_is_watched_too(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("later")
    link = ScriptedLink(key)
    async with (
        client_of(server.url) as client,
        scripted_worker(server.url, link, confirm_seconds=0.1, signals_pause_seconds=0.05),
    ):
        await client.create(key)
        [first] = await link.wait_for("start")
        await link.wait_for("renewed", lease=first["lease"])
        [second_id] = await client.create(key)
        second = (await link.wait_for("start", 2))[1]
        await link.wait_for("renewed", lease=second["lease"])
        await client.cancel(second_id)
        [cancel] = await link.wait_for("cancel")

    assert cancel["lease"] == second["lease"]


async def test_the_signals_of_all_runs_cost_one_request(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("signals")
    link = ScriptedLink(key, capacity=10)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        await client.create(key, 10)
        async with scripted_worker(proxy.url, link, confirm_seconds=0.5, batch_seconds=0.05):
            leases = {each["lease"] for each in await link.wait_for("start", 10)}
            while proxy.count("LeaseSignals") == 0:
                await proxy.next_request("LeaseSignals")
            signals = [each for each in proxy.requests if each.operation == "LeaseSignals"]

    assert [set(each.variables["leaseIds"]) for each in signals] == [leases]
    assert signals[0].variables["waitSeconds"] == 30.0


async def test_the_latest_progress_is_reported_with_that_of_other_runs(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("progress")
    link = ScriptedLink(key, capacity=2)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        await client.create(key, 2)
        async with scripted_worker(proxy.url, link):
            starts = await link.wait_for("start", 2)
            for done in (1, 2, 3):
                for start in starts:
                    message = {
                        "type": "progress",
                        "lease": start["lease"],
                        "done": done,
                        "total": 3,
                        "message": "a.png",
                    }
                    link.emit(message)
            await proxy.next_response("ReportTaskRunProgress")
            runs = [await client.read(start["run"]["id"]) for start in starts]

    [reports] = [each.variables["reports"] for each in proxy.requests if each.operation == "ReportTaskRunProgress"]
    assert [(each["leaseId"], each["done"]) for each in reports] == [(start["lease"], 3) for start in starts]
    for run in runs:
        assert (run["progress"]["done"], run["progress"]["total"], run["progress"]["message"]) == (3, 3, "a.png")
