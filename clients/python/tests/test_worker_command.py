"""The command `runyard-worker` and `Worker` in a program, with real processes and a real server."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from faulty_proxy import faulty_proxy
from runyard_client import Runyard
from runyard_client.testing.server import RunyardServer
from runyard_client.worker import Worker, WorkerFailed
from runyard_client.worker.cli import main
from scripted_executors import client_of
from worker_processes import wait_renewed, worker_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("processes", ["0", "1", "2"])
async def test_a_worker_executes_runs_and_exits_with_0(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str], processes: str
) -> None:
    suffix = unique_key("")
    async with (
        client_of(server.url) as client,
        worker_process(server.url, tmp_path, suffix, "--processes", processes) as worker,
    ):
        run_ids = await client.create("add" + suffix, 5, parameters={"a": 1, "b": 2})
        runs = await client.wait_ended(*run_ids)
        code = await worker.stop()

    assert [run["state"]["data"] for run in runs] == [{"result": 3}] * 5
    assert [worker.executions(run_id) for run_id in run_ids] == [1] * 5
    assert code == 0


async def test_once_executes_what_is_due_and_exits(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix = unique_key("")
    async with client_of(server.url) as client:
        run_ids = await client.create("add" + suffix, 5, parameters={"a": 1, "b": 2})
        async with worker_process(server.url, tmp_path, suffix, "--once") as worker:
            code = await worker.exit_code()
        runs = [await client.read(run_id) for run_id in run_ids]

    assert code == 0
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 5


async def test_an_app_that_cannot_be_imported_ends_the_worker(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    async with worker_process(server.url, tmp_path, unique_key(""), app="worker_app:nothing") as worker:
        code = await worker.exit_code()

    assert code == 1
    assert "worker_app has no attribute 'nothing'" in worker.log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concurrency", "0"], "`concurrency` must be between 1 and 10,000; got 0."),
        (["--url", "ftp://example.org"], "ftp://example.org"),
    ],
)
def test_invalid_options_exit_with_2(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shop:app", *options]) == 2

    assert message in capsys.readouterr().err


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def wait_health(address: str, status: int) -> str:
    """Wait until the health check responds with this status, and return the text."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://{address}") as response:
                if response.status == status:
                    return await response.text()


async def test_the_health_check_shows_whether_the_worker_works(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    address = free_address()
    suffix = unique_key("")
    options = ["--health", address, "--lease-seconds", "1"]
    async with (
        faulty_proxy(server.url) as proxy,
        aiohttp.ClientSession() as session,
        worker_process(proxy.url, tmp_path, suffix, *options, RUNYARD_WORKER_CLAIM_WAIT_SECONDS="0.2"),
    ):
        await proxy.next_response("ClaimTaskRuns")
        async with session.get(f"http://{address}") as response:
            healthy = response.status, await response.text()
        await proxy.disconnect()
        async with asyncio.timeout(30):
            while healthy[0] == 200:
                async with session.get(f"http://{address}") as response:
                    if response.status != 200:
                        unhealthy = response.status, await response.text()
                        break

    assert healthy == (200, "ok\n")
    assert unhealthy[0] == 503
    assert unhealthy[1].startswith("no response from the server for ")


async def test_the_health_check_fails_while_half_of_the_threads_do_not_stop(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    address = free_address()
    suffix = unique_key("")
    options = ["--health", address, "--concurrency", "2", "--lease-seconds", "2"]
    async with (
        client_of(server.url) as client,
        worker_process(server.url, tmp_path, suffix, *options, RUNYARD_WORKER_CONFIRM_SECONDS="0.1") as worker,
    ):
        [run_id] = await client.create("stubborn" + suffix, parameters={"name": "go"})
        await worker.wait_executions(run_id)
        await wait_renewed(server.url, run_id)
        await client.cancel(run_id)
        lost = await wait_health(address, 503)
        (tmp_path / "go").touch()
        await client.wait_ended(run_id)
        found = await wait_health(address, 200)

    assert (lost, found) == ("1 of 2 slots are occupied by threads that do not stop\n", "ok\n")


async def test_a_worker_within_a_program_executes_runs(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("inside")
    app = Runyard(server.url)

    @app.task(key=key)
    async def double(number: int) -> int:
        return 2 * number

    @app.task(key=key + "-thread")
    def triple(number: int) -> int:
        return 3 * number

    async with Worker(app, concurrency=2):
        handles = [await double.enqueue(4), await triple.enqueue(4)]
        results = [await handle.result(timeout=30) for handle in handles]
    await app.close()

    assert results == [8, 12]


async def test_a_worker_within_a_program_that_cannot_start_raises(unique_key: Callable[[str], str]) -> None:
    app = Runyard("http://127.0.0.1:1")

    @app.on_worker_start
    async def fail() -> None:
        raise ValueError("no database")

    @app.task(key=unique_key("fail"))
    async def nothing() -> None: ...

    with pytest.raises(WorkerFailed) as caught:
        async with Worker(app):
            raise AssertionError("unreachable")
    await app.close()

    assert caught.value.code == 1


async def test_a_third_signal_exits_at_once(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix = unique_key("")
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create("endless" + suffix)
        async with worker_process(proxy.url, tmp_path, suffix) as worker:
            await worker.wait_executions(run_id)
            await proxy.disconnect()
            worker.send_signal(signal.SIGINT)
            await worker.wait_logged("The worker stops")
            worker.send_signal(signal.SIGINT)
            await worker.wait_logged("are stopped and released")
            worker.send_signal(signal.SIGINT)
            code = await worker.exit_code()

    assert code == 1
