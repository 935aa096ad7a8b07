"""Example workers: they execute runs, and handle failures, restarts, cancellation and shutdown."""

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.client import TIMEOUT_SECONDS, Client
from tests.examples.conftest import create_runs, run_worker, state_histories, without_requeued_starts
from tests.serving import ServerProcess

Command = Sequence[str | Path]

CONCURRENCY = 4
"""Number of runs that a worker executes concurrently."""


async def test_runs_are_executed_and_a_failed_one_is_retried(command: Command, server_process: ServerProcess) -> None:
    client = await server_process.start()
    good = await create_runs(client, 6, seconds=0.05)
    (failing,) = await create_runs(client, 1, seconds=0.05, failures=2)

    async with run_worker(command, server_process) as worker:
        await worker.read_lines_with("COMPLETED", 7)

    assert await state_histories(client, good) == [["Scheduled", "Running", "Completed"]] * 6
    (history,) = await state_histories(client, [failing])
    assert history == ["Scheduled", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    run = await client.execute("GetTaskRun", id=failing)
    assert (run["state"]["data"], run["queueEntry"]) == ({"sent": True}, None)


async def test_sigterm_finishes_started_runs_and_releases_the_rest(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    ids = await create_runs(client, 10, seconds=0.5)

    async with run_worker(command, server_process) as worker:
        await worker.read_lines_with("RUNNING", CONCURRENCY)
        code = await worker.terminate()

    runs = [await client.execute("GetTaskRun", id=id) for id in ids]
    assert code == 0
    assert Counter(run["stateType"] for run in runs) == {"COMPLETED": CONCURRENCY, "SCHEDULED": 10 - CONCURRENCY}
    waiting = [run["queueEntry"] for run in runs if run["stateType"] == "SCHEDULED"]
    assert [entry["leaseExpiresAt"] for entry in waiting] == [None] * (10 - CONCURRENCY)


@pytest.mark.parametrize("stop", ["kill", "terminate"])
async def test_a_server_restart_loses_and_repeats_no_run(
    command: Command, server_process: ServerProcess, stop: str
) -> None:
    client = await server_process.start()
    ids = await create_runs(client, 20, seconds=0.2)

    async with run_worker(command, server_process) as worker:
        # More lines than concurrent runs: some runs are executing and some reports are in flight.
        await worker.read_lines_with("RUNNING", 2 * CONCURRENCY + 1)
        await getattr(server_process, stop)()
        # A report has failed because the server is gone.
        await worker.read_lines_with("response:", 1)
        client = await server_process.start()
        (last,) = await create_runs(client, 1, seconds=0, failures=0)
        while (await client.execute("CountTaskRuns", filter={"state": {"type": {"notIn": ["COMPLETED"]}}})) > 0:
            await worker.read_lines_with("COMPLETED", 1)
        code = await worker.terminate()

    assert code == 0
    # The stop may come between the start of a run and its confirmation. Such a run is not executed before its redelivery.
    histories = [without_requeued_starts(each) for each in await state_histories(client, [*ids, last])]
    assert histories == [["Scheduled", "Running", "Completed"]] * 21
    assert worker.count_lines_with("RUNNING") == 21


async def test_after_a_restart_runs_that_still_execute_use_their_places(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    await create_runs(client, CONCURRENCY - 1, seconds=600)

    async with run_worker(command, server_process) as worker:
        await worker.read_lines_with("RUNNING", CONCURRENCY - 1)
        await server_process.terminate()
        client = await server_process.start()
        await create_runs(client, 6, seconds=0.1)
        await worker.read_lines_with("COMPLETED", 6)

    assert worker.max_concurrency() == CONCURRENCY


async def test_a_run_whose_start_was_not_confirmed_is_executed_after_its_redelivery(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    await create_runs(client, 1, seconds=0)

    async with run_worker(command, server_process) as worker:
        await worker.read_lines_with("COMPLETED", 1)
        worker.process.send_signal(signal.SIGSTOP)
        (id,) = await create_runs(client, 1, seconds=0)
        while (await client.execute("GetTaskRun", id=id))["stateType"] != "RUNNING":
            continue
        await server_process.terminate()
        client = await server_process.start()
        worker.process.send_signal(signal.SIGCONT)
        await worker.read_lines_with("lost", 1)
        await worker.read_lines_with("COMPLETED", 1)
        code = await worker.terminate()

    assert code == 0
    assert await state_histories(client, [id]) == [
        ["Scheduled", "Running", "AwaitingRedelivery", "Running", "Completed"]
    ]
    assert worker.count_lines_with("RUNNING") == 2
    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_worker_with_one_line(
    command: Command, server_process: ServerProcess, number: signal.Signals
) -> None:
    client = await server_process.start()
    await create_runs(client, 1, seconds=0)

    async with run_worker(command, server_process) as worker:
        await worker.read_lines_with("COMPLETED", 1)
        worker.process.send_signal(number)
        output, errors = await asyncio.wait_for(worker.process.communicate(), TIMEOUT_SECONDS)

    assert (worker.process.returncode, output, errors) == (0, b"", b"Stopping: started runs are finished.\n")


async def test_a_cancelled_run_stops_at_the_next_heartbeat(command: Command, server_process: ServerProcess) -> None:
    client = await server_process.start()
    cancelled, revoked = await create_runs(client, 2, seconds=600)

    async with run_worker(command, server_process, LEASE_SECONDS="1") as worker:
        await worker.read_lines_with("RUNNING", 2)
        await client.execute("SetTaskRunState", id=cancelled, state={"type": "CANCELLING"})
        await worker.read_lines_with("CANCELLED", 1)
        await client.execute("SetTaskRunState", id=revoked, state={"type": "CANCELLED"})
        await worker.read_lines_with("lost", 1)
        code = await worker.terminate()

    assert code == 0
    assert await state_histories(client, [cancelled, revoked]) == [
        ["Scheduled", "Running", "Cancelling", "Cancelled"],
        ["Scheduled", "Running", "Cancelled"],
    ]


@pytest.mark.parametrize("pairing", ["python-sqlite", "node-sqlite"], indirect=True)
async def test_a_worker_sends_its_token_with_every_request(
    command: Command, server_process: ServerProcess, server_with_tokens: tuple[Client, str]
) -> None:
    client, token = server_with_tokens
    # Without renewal the lease expires before the work is done.
    ids = await create_runs(client, 2, seconds=1.5)
    (failing,) = await create_runs(client, 1, seconds=0.05, failures=1)

    async with run_worker(command, server_process, RUNYARD_TOKEN=token, LEASE_SECONDS="1") as worker:
        await worker.read_lines_with("COMPLETED", 3)
        code = await worker.terminate()

    assert code == 0
    assert await state_histories(client, ids) == [["Scheduled", "Running", "Completed"]] * 2
    assert (await state_histories(client, [failing]))[0][-2:] == ["Retrying", "Completed"]


@pytest.mark.parametrize("pairing", ["python-sqlite", "node-sqlite"], indirect=True)
async def test_a_worker_without_a_token_executes_nothing_and_reports_the_error(
    command: Command, server_process: ServerProcess, server_with_tokens: tuple[Client, str]
) -> None:
    client, _ = server_with_tokens
    ids = await create_runs(client, 1, seconds=0)

    async with run_worker(command, server_process) as worker:
        (line,) = await worker.read_lines_with("Disconnected:", 1)
        code = await worker.terminate()

    assert "Forbidden" in " ".join(line)
    assert code == 0
    assert await state_histories(client, ids) == [["Scheduled"]]
