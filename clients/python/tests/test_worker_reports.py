"""Reports of a worker, with scripted executors and a real server."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, faulty_proxy
from runyard_client.testing.server import RunyardServer
from scripted_executors import ScriptedLink, client_of, scripted_worker

RETRIED = {"retryPolicy": {"retries": 1, "retryDelaySeconds": [3600]}}


def completed(result: Any = 1) -> Any:
    return {"state": {"type": "COMPLETED", "data": {"result": result}}}


def failed(message: str = "ValueError: no", **details: Any) -> Any:
    return {"state": {"type": "FAILED", "message": message, **({"details": details} if details else {})}}


def reports_of(proxy: FaultyProxy) -> list[list[Any]]:
    return [each.variables["reports"] for each in proxy.requests if each.operation == "ExchangeTaskRuns"]


async def end_one_run(server: RunyardServer, key: str, outcome: Any, **values: Any) -> Any:
    """Execute one run with this outcome and return its record when the worker has had the response and has stopped."""
    async with client_of(server.url) as client:
        [run_id] = await client.create(key, **values)
        link = ScriptedLink(key, respond=lambda _: outcome)
        async with scripted_worker(server.url, link) as worker:
            await link.wait_for("start")
            assert await worker.stop() == 0
        return await client.read(run_id)


@pytest.mark.parametrize(
    ("outcome", "values", "type", "name"),
    [
        (completed(), {}, "COMPLETED", "Completed"),
        (failed(), {}, "FAILED", "Failed"),
        (failed(), RETRIED, "SCHEDULED", "AwaitingRetry"),
        (failed(retriable=False), RETRIED, "FAILED", "Failed"),
        ({"state": {"type": "FAILED", "name": "TimedOut"}}, {}, "FAILED", "TimedOut"),
        ({"state": {"type": "CANCELLED"}}, {}, "CANCELLED", "Cancelled"),
    ],
)
async def test_the_state_that_the_executor_decided_is_recorded(
    server: RunyardServer, unique_key: Callable[[str], str], outcome: Any, values: Any, type: str, name: str
) -> None:
    run = await end_one_run(server, unique_key("end"), outcome, **values)

    assert (run["state"]["type"], run["state"]["name"]) == (type, name)
    assert run["runCount"] == 1


async def test_a_retry_at_a_time_counts_as_a_try(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "details": {"scheduledTime": "2100-01-01T00:00:00Z"}}

    run = await end_one_run(server, unique_key("retry"), {"state": state})

    assert (run["state"]["type"], run["state"]["name"], run["runCount"]) == ("SCHEDULED", "AwaitingRetry", 1)
    assert run["nextScheduledStartTime"].startswith("2100-01-01T00:00:00")


async def test_a_release_counts_no_try(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    run = await end_one_run(server, unique_key("snooze"), {"release": 3600.0})

    assert (run["state"]["type"], run["state"]["name"], run["runCount"]) == ("SCHEDULED", "AwaitingRedelivery", 0)


@pytest.mark.parametrize("fault", ["lost", "refused"])
async def test_a_report_is_repeated_with_its_transition_id(
    server: RunyardServer, unique_key: Callable[[str], str], fault: str
) -> None:
    key = unique_key("repeat")
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        if fault == "lost":
            proxy.lose_responses("ExchangeTaskRuns", times=2)
        else:
            proxy.refuse("ExchangeTaskRuns", 503, times=2)
        [run_id] = await client.create(key)
        link = ScriptedLink(key, respond=lambda _: completed("once"))
        async with scripted_worker(proxy.url, link) as worker:
            await link.wait_for("start")
            code = await worker.stop()
        [run] = await client.wait_ended(run_id)

    reports = reports_of(proxy)
    assert code == 0
    assert len(reports) == 3
    assert reports[0] == reports[1] == reports[2]
    assert run["state"]["data"] == {"result": "once"}


async def test_what_ends_during_an_exchange_is_in_the_next_one(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("joined")
    link = ScriptedLink(key, capacity=5)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        run_ids = await client.create(key, 5)
        async with scripted_worker(proxy.url, link):
            leases = [each["lease"] for each in await link.wait_for("start", 5)]
            with proxy.hold("ExchangeTaskRuns") as hold:
                link.finish(leases[0])
                await hold.arrived.wait()
                for lease in leases[1:]:
                    link.finish(lease)
            await client.wait_ended(*run_ids)

    assert [[each["leaseId"] for each in batch] for batch in reports_of(proxy)] == [leases[:1], leases[1:]]


async def test_a_report_that_the_server_refuses_concerns_its_run_alone(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("refused")
    link = ScriptedLink(key, capacity=4)
    async with client_of(server.url) as client:
        run_ids = await client.create(key, 4)
        async with scripted_worker(server.url, link, batch_seconds=0.2) as worker:
            starts = await link.wait_for("start", 4)
            bad = starts[2]
            for start in starts:
                # The server has no state NOWHERE: it refuses the whole request.
                link.finish(start["lease"], {"state": {"type": "NOWHERE"}} if start is bad else completed())
            code = await worker.stop()
        states = {run_id: (await client.read(run_id))["state"] for run_id in run_ids}

    bad_state = states.pop(bad["run"]["id"])
    assert code == 0
    assert [state["type"] for state in states.values()] == ["COMPLETED"] * 3
    assert bad_state["type"] == "FAILED"
    assert bad_state["message"].startswith("ReportRefused: ")


async def test_a_result_above_the_servers_limit_fails_its_run(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("large")
    link = ScriptedLink(key, capacity=2)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        run_ids = await client.create(key, 2, **RETRIED)
        async with scripted_worker(proxy.url, link, batch_seconds=0.2, batch_bytes=1_000_000_000) as worker:
            large, small = await link.wait_for("start", 2)
            link.finish(large["lease"], completed("x" * 20_000_000))
            link.finish(small["lease"], completed("small"))
            code = await worker.stop()
        states = {run_id: (await client.read(run_id))["state"] for run_id in run_ids}

    assert code == 0
    assert states[small["run"]["id"]]["type"] == "COMPLETED"
    assert states[large["run"]["id"]]["type"] == "FAILED"
    assert states[large["run"]["id"]]["message"].startswith("ResultTooLarge: A request must not exceed")


async def test_a_request_is_not_larger_than_its_limit(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("bytes")
    link = ScriptedLink(key, capacity=4)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        run_ids = await client.create(key, 4)
        async with scripted_worker(proxy.url, link, batch_seconds=0.2, batch_bytes=25_000):
            for start in await link.wait_for("start", 4):
                link.finish(start["lease"], completed("x" * 10_000))
            await client.wait_ended(*run_ids)

    assert [len(batch) for batch in reports_of(proxy)] == [2, 2]


async def test_the_end_of_a_deleted_run_is_dropped(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("deleted")
    link = ScriptedLink(key)
    async with client_of(server.url) as client:
        [run_id] = await client.create(key)
        async with scripted_worker(server.url, link) as worker:
            [start] = await link.wait_for("start")
            await client.transport.execute("DeleteTaskRun", {"id": run_id})
            link.finish(start["lease"])
            code = await worker.stop()
        run = await client.read(run_id)

    assert code == 0
    assert run is None


async def test_runs_of_an_executor_that_died_are_failed(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("death")
    dying, other = ScriptedLink(key, capacity=1), ScriptedLink(key, capacity=1)
    async with client_of(server.url) as client:
        run_ids = await client.create(key, 2)
        async with scripted_worker(server.url, dying, other):
            [dead], [alive] = await asyncio.gather(dying.wait_for("start"), other.wait_for("start"))
            dying.die("signal 9")
            [run] = await client.wait_ended(dead["run"]["id"])
            untouched = other.received("cancel")
            other.finish(alive["lease"])
            await client.wait_ended(*run_ids)

    assert (run["state"]["type"], run["state"]["message"]) == ("FAILED", "ProcessDied: signal 9")
    assert run["state"]["data"]["error"] == {
        "type": "ProcessDied",
        "message": "signal 9",
        "traceback": "",
        "attempt": 1,
        "worker": "scripted",
        "retriable": True,
    }
    assert untouched == []
