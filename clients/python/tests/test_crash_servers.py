"""Servers that are killed, stopped and suspended while a worker executes runs."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runyard_client.testing.server import RunyardServer
from scripted_executors import client_of
from worker_processes import wait_renewed, worker_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

QUICK = {
    "RUNYARD_WORKER_CONFIRM_SECONDS": "0.1",
    "RUNYARD_WORKER_LEASE_SECONDS": "3",
    "RUNYARD_WORKER_REQUEST_SECONDS": "2",
}


@pytest.mark.parametrize("outage", ["kill", "restart"])
async def test_no_run_is_lost_or_executed_twice_when_the_server_starts_again(
    own_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str], outage: str
) -> None:
    suffix, url = unique_key(""), own_server.url
    async with (
        client_of(url) as client,
        worker_process(url, tmp_path, suffix, "--concurrency", "30", **QUICK) as worker,
    ):
        running = await client.create("wait" + suffix, 20, parameters={"name": "go"})
        long = await client.create("wait" + suffix, 2, parameters={"name": "later"})
        for run_id in running + long:
            await worker.wait_executions(run_id)
        await wait_renewed(url, long[-1])
        if outage == "kill":
            own_server.kill()
        else:
            await asyncio.to_thread(own_server.stop)
        (tmp_path / "go").touch()
        await worker.wait_logged("The server is not available")
        await asyncio.to_thread(own_server.start)
        queued = await client.create("add" + suffix, 5, parameters={"a": 1, "b": 1})
        (tmp_path / "later").touch()
        runs = await client.wait_ended(*running, *long, *queued)
        counts = [(await client.read(run_id))["runCount"] for run_id in running + long + queued]
        code = await worker.stop()

    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 27
    assert counts == [1] * 27
    assert [worker.executions(run_id) for run_id in running + long + queued] == [1] * 27
    assert code == 0


async def test_an_outage_longer_than_the_lease_ends_no_run(
    own_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), own_server.url
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, **QUICK) as worker:
        run_ids = await client.create("wait" + suffix, 2, parameters={"name": "go"})
        for run_id in run_ids:
            await worker.wait_executions(run_id)
        await wait_renewed(url, run_ids[-1])
        own_server.kill()
        await asyncio.sleep(4)  # the outage is longer than the lease
        await asyncio.to_thread(own_server.start)
        await worker.wait_logged("The server is available again")
        (tmp_path / "go").touch()
        runs = await client.wait_ended(*run_ids)
        counts = [(await client.read(run_id))["runCount"] for run_id in run_ids]
        code = await worker.stop()

    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 2
    assert counts == [1, 1]
    assert [worker.executions(run_id) for run_id in run_ids] == [1, 1]
    assert code == 0


async def test_a_server_that_hangs_delays_reports_only(
    own_server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), own_server.url
    async with client_of(url) as client, worker_process(url, tmp_path, suffix, **QUICK) as worker:
        run_ids = await client.create("wait" + suffix, 3, parameters={"name": "go"})
        for run_id in run_ids:
            await worker.wait_executions(run_id)
        await wait_renewed(url, run_ids[-1])
        own_server.pause()
        (tmp_path / "go").touch()
        await worker.wait_logged("no response within 2 seconds")
        own_server.resume()
        runs = await client.wait_ended(*run_ids)
        code = await worker.stop()

    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 3
    assert [worker.executions(run_id) for run_id in run_ids] == [1] * 3
    assert code == 0
