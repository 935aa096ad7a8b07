"""`runyard queues pause` and `resume`, `runyard workers`, and the reason for which `runyard runs show` waits."""

import json

import pytest

from resolvers.queue.wait_reasons import WaitReason
from runyard.terminal.wait_reasons import describe_wait
from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.queued_runs import run_under_lease
from tests.client import Client
from tests.command import runyard_at
from tests.serving import RunningServer

pytestmark = pytest.mark.processes


async def wait_of(client: Client, id: str) -> list[str]:
    """Return the text after `Waits` that `runyard runs show` prints, in a list; an empty list without such a line."""
    shown = await runyard_at(client.url, "runs", "show", id)
    return [line.removeprefix("Waits").strip() for line in shown.stdout.splitlines() if line.startswith("Waits")]


async def test_a_queue_is_paused_and_resumed(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", taskKey="mail")

    paused = await runyard_at(client.url, "queues", "pause", "mail")
    table = await runyard_at(client.url, "queues")
    reason = await wait_of(client, id)
    resumed = await runyard_at(client.url, "queues", "resume", "mail")

    assert (paused.returncode, paused.stdout) == (0, "The queue of mail is paused.\n")
    assert table.stdout.splitlines()[1].endswith("  2030-01-01 12:00:00Z")
    assert reason == ["QUEUE_PAUSED: the queue of mail is paused: `runyard queues resume mail`"]
    assert (resumed.returncode, resumed.stdout) == (0, "The queue of mail is not paused.\n")
    assert await wait_of(client, id) == ["NO_WORKER: no worker receives runs of mail"]


async def test_a_run_that_is_not_due_shows_when_it_is(client: Client) -> None:
    id = await create_task_run(client, taskKey="mail", delaySeconds=90.0)

    assert await wait_of(client, id) == ["NOT_DUE: it is due at 2030-01-01 12:01:30Z"]


async def test_a_retried_run_shows_when_it_is_retried(client: Client) -> None:
    await create_task_run(client, "SCHEDULED", retryPolicy={"retries": 1, "retryDelaySeconds": [60.0]})
    id, lease_id = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, id, "FAILED", lease_id=lease_id)

    assert await wait_of(client, id) == ["RETRY_DELAY: it is retried at 2030-01-01 12:01:00Z"]


async def test_a_run_without_a_free_slot_shows_the_tag(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="database", limit=0)
    id = await create_task_run(client, "SCHEDULED", tags=["database"])

    await client.execute("ClaimTaskRuns", taskKeys=["t"])

    assert await wait_of(client, id) == ["NO_SLOT: no slot of the concurrency limit on the tag database is free"]


async def test_a_run_behind_others_is_in_the_queue(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        await create_task_run(client, "SCHEDULED")
        await socket.deliveries(1)
        id = await create_task_run(client, "SCHEDULED")
        reason = await wait_of(client, id)

    assert reason == ["IN_QUEUE: other runs of the queue are delivered before"]


@pytest.mark.parametrize("reason", list(WaitReason))
def test_every_wait_reason_has_a_text(reason: str) -> None:
    entry = {"waitReason": reason, "taskKey": "t", "availableAt": "2030-01-01T12:00:00.000000Z", "waitsForTag": "a"}

    assert describe_wait(entry).startswith(f"{reason}: ")


async def test_workers_are_listed_with_their_leases(server: RunningServer, client: Client) -> None:
    for _ in range(2):
        await create_task_run(client, "SCHEDULED", taskKey="mail")
    claimed = await client.execute("ClaimTaskRuns", taskKeys=["mail"], limit=2, workerName="mill-1", leaseSeconds=60.0)
    await client.execute("AcknowledgeTaskRuns", leaseIds=[each["leaseId"] for each in claimed["deliveries"]])

    table = await runyard_at(client.url, "workers")
    document = await runyard_at(client.url, "workers", "--key", "mail", "--json")

    assert table.stdout == (
        "NAME    CONNECTED  LEASES  FIRST EXPIRES         KEYS\nmill-1  yes        2       2030-01-01 12:01:00Z  mail\n"
    )
    assert [worker["name"] for worker in json.loads(document.stdout)] == ["mill-1"]
