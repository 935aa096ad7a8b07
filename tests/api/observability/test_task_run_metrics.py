"""`/metrics`: how task runs end, how long they wait and run, and how many are running."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from db.connection import Notification, TaskRunEnded
from tests.builders.api_runs import create_flow_run, create_task_run, create_task_runs, set_task_run_state
from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.metrics_page import scrape
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server


def ended(samples: dict[str, float]) -> dict[str, float]:
    """Return the numbers of ended task runs, by the labels."""
    name = "runyard_task_runs_total"
    return {each.removeprefix(name): value for each, value in samples.items() if each.startswith(f"{name}{{")}


async def run_and_end(client: Client, type: str, task_key: str = "t") -> str:
    id = await create_task_run(client, "RUNNING", taskKey=task_key)
    await set_task_run_state(client, id, type)
    return id


async def test_ended_runs_are_counted_by_key_and_state(server: RunningServer) -> None:
    for type in ("COMPLETED", "COMPLETED", "FAILED", "CRASHED"):
        await run_and_end(server.client, type)
    await run_and_end(server.client, "COMPLETED", "mail")
    await create_task_run(server.client, "CANCELLED", taskKey="mail")
    flow_run_id = await create_flow_run(server.client, "RUNNING")
    await create_task_run(server.client, "COMPLETED", taskKey="step", flowRunId=flow_run_id)

    assert ended(await scrape(server)) == {
        '{state="COMPLETED",task_key="t"}': 2,
        '{state="FAILED",task_key="t"}': 1,
        '{state="CRASHED",task_key="t"}': 1,
        '{state="COMPLETED",task_key="mail"}': 1,
        '{state="CANCELLED",task_key="mail"}': 1,
        '{state="COMPLETED",task_key="step"}': 1,
    }


async def test_a_retry_is_no_end_and_a_repeated_report_counts_once(server: RunningServer) -> None:
    await create_task_run(server.client, "SCHEDULED", retryPolicy={"retries": 1})
    id, lease_id = await run_under_lease(server.client, "RUNNING")
    await set_task_run_state(server.client, id, "FAILED", lease_id=lease_id)
    _, lease_id = await run_under_lease(server.client, "RUNNING")
    for _ in range(2):
        await set_task_run_state(
            server.client,
            id,
            "FAILED",
            lease_id=lease_id,
            details={"transitionId": "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b20"},
        )
    await set_task_run_state(server.client, id, "CRASHED", force=True)

    assert ended(await scrape(server)) == {'{state="FAILED",task_key="t"}': 1}


async def test_a_refused_request_counts_nothing(server: RunningServer) -> None:
    inputs = [
        {"taskKey": "t", "state": {"type": "COMPLETED"}},
        {"taskKey": "t", "flowRunId": "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b20"},
    ]

    await server.client.execute_refused("CreateTaskRuns", inputs=inputs)

    assert ended(await scrape(server)) == {}


async def test_wait_and_run_seconds_are_measured_from_due_time_to_start_to_end(server: RunningServer) -> None:
    await create_scheduled(server.client)
    server.clock.advance(7)
    id, lease_id = await run_under_lease(server.client, "RUNNING")
    server.clock.advance(40)
    await set_task_run_state(server.client, id, "COMPLETED", lease_id=lease_id)
    await create_task_run(server.client, "CANCELLED")

    samples = await scrape(server)

    waits, runs = "runyard_task_run_wait_seconds", "runyard_task_run_seconds"
    assert (samples[f"{waits}_count"], samples[f"{waits}_sum"]) == (1, 7)
    assert (samples[f"{runs}_count"], samples[f"{runs}_sum"]) == (1, 40)
    assert [samples[f'{runs}_bucket{{le="{bound}"}}'] for bound in ("30.0", "60.0", "86400.0")] == [0, 1, 1]


@SQLITE_ONLY
async def test_a_run_that_is_retried_has_waited_once(server: RunningServer) -> None:
    await create_task_run(server.client, "SCHEDULED", retryPolicy={"retries": 1})
    id, lease_id = await run_under_lease(server.client, "RUNNING")
    await set_task_run_state(server.client, id, "FAILED", lease_id=lease_id)
    await run_under_lease(server.client, "RUNNING")

    assert (await scrape(server))["runyard_task_run_wait_seconds_count"] == 1


@SQLITE_ONLY
async def test_the_first_task_keys_are_labelled_and_the_rest_combined(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.task_run_metrics.MAX_TASK_KEYS", 2)
    for key in ("a", "b", "c", "d", "a"):
        await run_and_end(server.client, "COMPLETED", key)

    assert ended(await scrape(server)) == {
        '{state="COMPLETED",task_key="a"}': 2,
        '{state="COMPLETED",task_key="b"}': 1,
        '{state="COMPLETED",task_key="other"}': 2,
    }


async def test_running_runs_and_paused_queues_are_gauges(server: RunningServer) -> None:
    await create_task_runs(server.client, 3, "RUNNING")
    await run_and_end(server.client, "COMPLETED")
    for key in ("a", "b"):
        await server.client.execute("PauseTaskQueue", taskKey=key)

    samples = await scrape(server)

    assert samples["runyard_task_runs_running"] == 3
    assert samples["runyard_queues_paused"] == 2


@POSTGRESQL_ONLY
async def test_each_server_counts_what_it_has_committed(database_url: str, tmp_path: Path) -> None:
    async with (
        run_server(tmp_path, database_url=database_url) as here,
        run_server(tmp_path, here.clock, database_url=database_url) as there,
    ):
        is_known_here = asyncio.Event()

        def listen(notifications: Sequence[Notification]) -> None:
            if any(isinstance(each, TaskRunEnded) for each in notifications):
                is_known_here.set()

        here.services.database.listen(listen)
        await run_and_end(there.client, "COMPLETED")
        await asyncio.wait_for(is_known_here.wait(), TIMEOUT_SECONDS)

        assert ended(await scrape(there)) == {'{state="COMPLETED",task_key="t"}': 1}
        assert ended(await scrape(here)) == {}
