"""The workers of examples/ carry runs out, and keep their word when something goes wrong."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.client import Client
from tests.examples.conftest import create, histories, working
from tests.serving import ServerProcess

Command = Sequence[str | Path]

AT_ONCE = 4
"""How many runs a worker works on at a time."""


async def test_runs_are_carried_out_and_a_failed_one_is_tried_again(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    good = await create(client, 6, seconds=0.05)
    (failing,) = await create(client, 1, seconds=0.05, failures=2)

    async with working(command, server_process) as worker:
        await worker.lines_with("COMPLETED", 7)

    assert await histories(client, good) == [["Scheduled", "Running", "Completed"]] * 6
    (history,) = await histories(client, [failing])
    assert history == ["Scheduled", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    run = await client.ask("GetTaskRun", id=failing)
    assert (run["state"]["data"], run["queueEntry"]) == ({"sent": True}, None)


async def test_sigterm_finishes_what_is_begun_and_gives_back_the_rest(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    ids = await create(client, 10, seconds=0.5)

    async with working(command, server_process) as worker:
        await worker.lines_with("RUNNING", AT_ONCE)
        code = await worker.terminate()

    runs = [await client.ask("GetTaskRun", id=id) for id in ids]
    assert code == 0
    assert Counter(run["stateType"] for run in runs) == {"COMPLETED": AT_ONCE, "SCHEDULED": 10 - AT_ONCE}
    waiting = [run["queueEntry"] for run in runs if run["stateType"] == "SCHEDULED"]
    assert [entry["leaseExpiresAt"] for entry in waiting] == [None] * (10 - AT_ONCE)


async def test_a_server_that_is_killed_and_starts_again_costs_no_run_and_repeats_none(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    ids = await create(client, 20, seconds=0.2)

    async with working(command, server_process) as worker:
        # More than one a place: some are under way, and some reports are, too.
        await worker.lines_with("RUNNING", 2 * AT_ONCE + 1)
        await server_process.kill()
        # A report has found nobody to take it.
        await worker.lines_with("answer:", 1)
        client = await server_process.start()
        (last,) = await create(client, 1, seconds=0, failures=0)
        while (await client.ask("CountTaskRuns", filter={"state": {"type": {"notAny": ["COMPLETED"]}}})) > 0:
            await worker.lines_with("COMPLETED", 1)
        code = await worker.terminate()

    assert code == 0
    assert await histories(client, [*ids, last]) == [["Scheduled", "Running", "Completed"]] * 21


async def test_a_cancelled_run_is_stopped_at_the_next_heartbeat(
    command: Command, server_process: ServerProcess
) -> None:
    client = await server_process.start()
    asked, taken_away = await create(client, 2, seconds=600)

    async with working(command, server_process, LEASE_SECONDS="1") as worker:
        await worker.lines_with("RUNNING", 2)
        await client.ask("SetTaskRunState", id=asked, state={"type": "CANCELLING"})
        await worker.lines_with("CANCELLED", 1)
        await client.ask("SetTaskRunState", id=taken_away, state={"type": "CANCELLED"})
        await worker.lines_with("lost", 1)
        code = await worker.terminate()

    assert code == 0
    assert await histories(client, [asked, taken_away]) == [
        ["Scheduled", "Running", "Cancelling", "Cancelled"],
        ["Scheduled", "Running", "Cancelled"],
    ]


@pytest.mark.parametrize("pairing", ["python-sqlite", "node-sqlite"], indirect=True)
async def test_a_worker_shows_its_token_wherever_one_is_asked_for(
    command: Command, server_process: ServerProcess, guarded_server: tuple[Client, str]
) -> None:
    client, token = guarded_server
    # The lease runs out before the work is done, unless it is renewed.
    ids = await create(client, 2, seconds=1.5)
    (failing,) = await create(client, 1, seconds=0.05, failures=1)

    async with working(command, server_process, RUNYARD_TOKEN=token, LEASE_SECONDS="1") as worker:
        await worker.lines_with("COMPLETED", 3)
        code = await worker.terminate()

    assert code == 0
    assert await histories(client, ids) == [["Scheduled", "Running", "Completed"]] * 2
    assert (await histories(client, [failing]))[0][-2:] == ["Retrying", "Completed"]


@pytest.mark.parametrize("pairing", ["python-sqlite", "node-sqlite"], indirect=True)
async def test_a_worker_without_its_token_gets_nothing_and_says_so(
    command: Command, server_process: ServerProcess, guarded_server: tuple[Client, str]
) -> None:
    client, _ = guarded_server
    ids = await create(client, 1, seconds=0)

    async with working(command, server_process) as worker:
        (line,) = await worker.lines_with("Disconnected:", 1)
        code = await worker.terminate()

    assert "Forbidden" in " ".join(line)
    assert code == 0
    assert await histories(client, ids) == [["Scheduled"]]
