"""Workers that are killed, suspended and drained: real processes and a real server."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard_client.testing.server import RunyardServer, start_server
from scripted_executors import client_of
from worker_app import hold_the_gil
from worker_processes import WorkerProcess, execute, wait_renewed, worker_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CONFIRM = {"RUNYARD_WORKER_CONFIRM_SECONDS": "0.1"}
RETRIED = {"retryPolicy": {"retries": 3}}
SET_LIMIT = "mutation ($tag: String!) { setConcurrencyLimit(tag: $tag, limit: 1) { concurrencyLimit { tag } } }"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def quick_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunyardServer]:
    """A server that finds lost workers within two seconds."""
    folder = tmp_path_factory.mktemp("quick")
    database_url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with start_server(folder, database_url, RUNYARD_ACKNOWLEDGE_SECONDS="1", RUNYARD_SWEEP_SECONDS="0.5") as running:
        yield running


def kill_all(worker: WorkerProcess) -> None:
    """Kill the coordinator and its children at once: the coordinator first, which would report the death of a child."""
    pids = [worker.pid, *worker.children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def suspend_all(worker: WorkerProcess, number: int) -> None:
    for pid in [worker.pid, *worker.children()]:
        os.kill(pid, number)


async def test_a_worker_killed_before_it_confirms_uses_no_try(
    quick_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), quick_server.url
    never = {"RUNYARD_WORKER_CONFIRM_SECONDS": "10"}
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, **never) as killed:
        [run_id] = await client.create("wait" + suffix, parameters={"name": "go"})
        await killed.wait_executions(run_id)
        kill_all(killed)
        (tmp_path / "go").touch()
        async with worker_process(url, tmp_path, suffix):
            [run] = await client.wait_ended(run_id)
        record = await client.read(run_id)

    assert run["state"]["data"] == {"result": "go"}
    assert record["runCount"] == 1


@pytest.mark.parametrize(("values", "type", "count"), [({}, "CRASHED", 1), (RETRIED, "COMPLETED", 2)])
async def test_a_worker_killed_while_it_works_is_retried_by_policy(
    quick_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str], values: Any, type: str, count: int
) -> None:
    suffix, url = unique_key(""), quick_server.url
    options = ["--lease-seconds", "1"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options, **CONFIRM) as killed:
        [run_id] = await client.create("wait" + suffix, parameters={"name": "go"}, **values)
        await killed.wait_executions(run_id)
        await wait_renewed(url, run_id)
        kill_all(killed)
        (tmp_path / "go").touch()
        async with worker_process(url, tmp_path, suffix):
            [run] = await client.wait_ended(run_id)
        record = await client.read(run_id)

    assert run["state"]["type"] == type
    assert record["runCount"] == count


async def test_a_suspended_worker_changes_nothing_when_it_continues(
    quick_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), quick_server.url
    options = ["--lease-seconds", "1"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options, **CONFIRM) as suspended:
        [run_id] = await client.create("wait" + suffix, parameters={"name": "go"}, **RETRIED)
        await suspended.wait_executions(run_id)
        await wait_renewed(url, run_id)
        suspend_all(suspended, signal.SIGSTOP)
        async with worker_process(url, tmp_path, suffix) as other:
            await other.wait_executions(run_id, 2)
            suspend_all(suspended, signal.SIGCONT)
            await suspended.wait_logged("its lease has ended")
            (tmp_path / "go").touch()
            [run] = await client.wait_ended(run_id)
            codes = [await suspended.stop(), await other.stop()]
        record = await client.read(run_id)

    assert (run["state"]["type"], record["runCount"]) == ("COMPLETED", 2)
    assert codes == [0, 0]


async def test_a_child_that_is_killed_fails_its_runs_at_once(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server.url
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, "--processes", "2") as worker:
        [waiting_id] = await client.create("wait" + suffix, parameters={"name": "go"})
        await worker.wait_executions(waiting_id)
        [dead_id] = await client.create("die" + suffix)
        [dead] = await client.wait_ended(dead_id)
        (tmp_path / "go").touch()
        [waiting] = await client.wait_ended(waiting_id)
        [after_id] = await client.create("add" + suffix, parameters={"a": 1, "b": 1})
        [after] = await client.wait_ended(after_id)
        code = await worker.stop()

    assert (dead["state"]["type"], dead["state"]["message"]) == ("FAILED", "ProcessDied: signal 9")
    assert waiting["state"]["data"] == {"result": "go"}
    assert worker.executions(waiting_id) == 1
    assert after["state"]["data"] == {"result": 2}
    assert code == 0


async def test_a_blocked_event_loop_loses_no_lease_and_is_named(
    quick_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), quick_server.url
    options = ["--lease-seconds", "1", "--concurrency", "2"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options, **CONFIRM) as worker:
        [run_id] = await client.create("block" + suffix, parameters={"name": "go"})
        await worker.wait_logged(f"(block{suffix})")
        record = await client.read(run_id)
        [waiting_id] = await client.create("add" + suffix, parameters={"a": 1, "b": 1})
        await wait_renewed(url, run_id, times=4)
        (tmp_path / "go").touch()
        runs = await client.wait_ended(run_id, waiting_id)
        code = await worker.stop()

    assert f"{record['name']} (block{suffix})" in worker.log
    assert [run["state"]["data"] for run in runs] == [{"result": "go"}, {"result": 2}]
    assert [worker.executions(each) for each in (run_id, waiting_id)] == [1, 1]
    assert code == 0


def length_that_holds_the_gil(seconds: float) -> int:
    """Return the length of a text on which the task `hold-gil` computes at least this long. Each character doubles it."""
    length, needed = 18, 0.0
    while needed < 0.02:
        length += 1
        began_at = time.process_time()
        hold_the_gil(length)
        needed = time.process_time() - began_at
    return length + math.ceil(math.log2(seconds / needed))


async def test_code_that_holds_the_gil_for_three_leases_loses_none(
    quick_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), quick_server.url
    options = ["--lease-seconds", "1"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options, **CONFIRM) as worker:
        [run_id] = await client.create("hold-gil" + suffix, parameters={"length": length_that_holds_the_gil(5)})
        await worker.wait_executions(run_id)
        await wait_renewed(url, run_id, times=9)
        during = await client.read(run_id)
        await client.wait_ended(run_id)
        run = await client.read(run_id)
        code = await worker.stop()

    assert f"(hold-gil{suffix})" in worker.log
    assert (during["state"]["type"], run["state"]["type"], run["runCount"]) == ("RUNNING", "COMPLETED", 1)
    assert (worker.executions(run_id), code) == (1, 0)


async def test_a_drain_reports_what_finishes_and_releases_the_rest(
    server_on: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server_on.url
    options = ["--drain-seconds", "2", "--concurrency", "20"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options) as worker:
        finishing = await client.create("wait" + suffix, 15, parameters={"name": "go"})
        endless = await client.create("endless" + suffix, 5)
        for run_id in finishing + endless:
            await worker.wait_executions(run_id)
        worker.send_signal(signal.SIGTERM)
        await worker.wait_logged("The worker stops")
        (tmp_path / "go").touch()
        runs = await client.wait_ended(*finishing)
        code = await worker.exit_code()
        async with worker_process(url, tmp_path, suffix) as other:
            for run_id in endless:
                await other.wait_executions(run_id, 2)
        counts = [(await client.read(run_id))["runCount"] for run_id in finishing + endless]

    assert code == 0
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 15
    assert [worker.executions(run_id) for run_id in finishing] == [1] * 15
    assert counts == [1] * 20


async def test_results_that_cannot_be_recorded_fail_their_runs(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server.url
    kinds = ["large", "object", "nan", "raises"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix) as worker:
        run_ids = [(await client.create("bad" + suffix, parameters={"kind": kind}))[0] for kind in kinds]
        runs = await client.wait_ended(*run_ids)
        [after_id] = await client.create("add" + suffix, parameters={"a": 1, "b": 1})
        [after] = await client.wait_ended(after_id)
        code = await worker.stop()

    assert [run["state"]["type"] for run in runs] == ["FAILED"] * 4
    types = [run["state"]["data"]["error"]["type"].rpartition(".")[2] for run in runs]
    assert types == ["ResultTooLarge", "NotSerialisable", "NotSerialisable", "Unprintable"]
    assert after["state"]["data"] == {"result": 2}
    assert code == 0


async def test_runs_that_wait_for_a_slot_do_not_hold_up_others(
    server_on: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server_on.url
    tag = "one" + suffix
    async with client_of(url) as client, worker_process(url, tmp_path, suffix) as worker:
        await execute(url, SET_LIMIT, tag=tag)
        tagged = await client.create("tagged" + suffix, 40, tags=[tag])
        others = await client.create("add" + suffix, 5, parameters={"a": 1, "b": 1})
        await client.wait_ended(*others)
        waiting = [run_id for run_id in tagged if (await client.read(run_id))["state"]["type"] == "SCHEDULED"]
        await client.wait_ended(*tagged)
        code = await worker.stop()
        counts = [(await client.read(run_id))["runCount"] for run_id in tagged]

    assert waiting
    assert [worker.executions(run_id) for run_id in tagged] == [1] * 40
    assert counts == [1] * 40
    assert code == 0


async def test_a_thread_that_ignores_its_cancellation_is_reported_when_it_ends(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server.url
    options = ["--lease-seconds", "2", "--concurrency", "4"]
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, *options, **CONFIRM) as worker:
        [run_id] = await client.create("stubborn" + suffix, parameters={"name": "go"})
        await worker.wait_executions(run_id)
        await wait_renewed(url, run_id)
        await client.cancel(run_id)
        await wait_renewed(url, run_id, times=2)
        during = await client.read(run_id)
        (tmp_path / "go").touch()
        await client.wait_ended(run_id)
        after = await client.read(run_id)
        code = await worker.stop()

    assert during["state"]["type"] == "CANCELLING"
    assert after["state"]["type"] in ("COMPLETED", "CANCELLED")
    assert (after["runCount"], code) == (1, 0)


async def test_runs_are_cancelled_before_and_during_their_work(
    server_on: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server_on.url
    async with client_of(url) as client:
        [before_id] = await client.create("endless" + suffix)
        await client.cancel(before_id)
        async with worker_process(url, tmp_path, suffix, "--lease-seconds", "2", **CONFIRM) as worker:
            [during_id] = await client.create("endless" + suffix)
            await worker.wait_executions(during_id)
            await wait_renewed(url, during_id)
            await client.cancel(during_id)
            runs = await client.wait_ended(before_id, during_id)
            code = await worker.stop()

    assert [run["state"]["type"] for run in runs] == ["CANCELLED", "CANCELLED"]
    assert [worker.executions(run_id) for run_id in (before_id, during_id)] == [0, 1]
    assert code == 0
