"""`/metrics`: exact figures of operations, queues and the database."""

import asyncio
import re
from pathlib import Path

import pytest
from starlette.requests import Request

from resolvers.delivery.dispatcher import Dispatcher, QueueTimers
from resolvers.state_changes import FeedTimers, StateFeed
from resolvers.task_run_metrics import TaskRunMetrics
from resolvers.waits import Waits
from runyard.observability.metrics import OperationMetrics
from runyard.observability.prometheus import PrometheusMetrics
from runyard.services import Services
from tests.builders.ids import UNKNOWN_ID
from tests.builders.queued_runs import create_scheduled
from tests.metrics_page import scrape
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server
from tests.storage.open_database import open_database


def queue_depths(samples: dict[str, float], task_key: str) -> dict[str, float]:
    places = ("scheduled", "retry", "delayed", "leased")
    return {place: samples[f'runyard_queue_runs{{place="{place}",task_key="{task_key}"}}'] for place in places}


def lost_leases(samples: dict[str, float]) -> dict[str, float]:
    outcomes = ("unacknowledged", "lapsed", "crashed")
    return {each: samples[f'runyard_leases_lost_total{{outcome="{each}"}}'] for each in outcomes}


async def test_operations_are_counted_by_name_and_outcome(server: RunningServer) -> None:
    await create_scheduled(server.client, "a")
    await create_scheduled(server.client, "a")
    await server.client.execute_refused("DeleteTaskRun", id=UNKNOWN_ID)
    await server.client.http.post("/graphql", json={"query": "query Mine { __typename }"})

    samples = await scrape(server)

    counted = {name: value for name, value in samples.items() if name.startswith("runyard_operations_total")}
    assert counted == {
        'runyard_operations_total{operation="CreateTaskRun",outcome="ok"}': 2,
        'runyard_operations_total{operation="DeleteTaskRun",outcome="refused"}': 1,
        'runyard_operations_total{operation="other",outcome="ok"}': 1,
    }
    assert samples['runyard_operation_seconds_count{operation="CreateTaskRun"}'] == 2
    assert samples['runyard_operation_seconds_bucket{le="+Inf",operation="CreateTaskRun"}'] == 2
    assert samples['runyard_operation_seconds_sum{operation="CreateTaskRun"}'] > 0


async def test_errors_are_counted_by_code(server: RunningServer) -> None:
    await server.client.execute_refused("DeleteTaskRun", id=UNKNOWN_ID)
    await server.client.execute_refused("DeleteTaskRun", id="no id")
    await server.client.execute_refused("DeleteTaskRun", id="no id")

    samples = await scrape(server)

    errors = {name: value for name, value in samples.items() if name.startswith("runyard_errors_total")}
    assert errors == {
        'runyard_errors_total{code="NOT_FOUND"}': 1,
        'runyard_errors_total{code="BAD_USER_INPUT"}': 2,
    }


@SQLITE_ONLY
async def test_operation_names_chosen_by_clients_are_counted_as_other(server: RunningServer) -> None:
    for number in range(20):
        await server.client.http.post("/graphql", json={"query": f"query Mine{number} {{ __typename }}"})

    samples = await scrape(server)

    names = {name for name in samples if name.startswith("runyard_operations_total")}
    assert names == {'runyard_operations_total{operation="other",outcome="ok"}'}


async def test_open_sockets_and_subscriptions_are_counted(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"], prefetch=1)
        await create_scheduled(server.client, "a")
        await socket.deliveries(1)
        during = await scrape(server)
    async with asyncio.timeout(10):
        while (after := await scrape(server))["runyard_websockets"]:
            continue

    names = ("runyard_websockets", "runyard_subscriptions")
    assert [during[name] for name in names] == [1, 1]
    assert [after[name] for name in names] == [0, 0]


async def test_queue_depths_are_reported_by_place(server: RunningServer) -> None:
    for _ in range(3):
        await create_scheduled(server.client, "a")
    await create_scheduled(server.client, "a", at=server.clock.in_seconds(60))
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"], prefetch=1)
        await socket.deliveries(1)
        server.clock.advance(7)
        samples = await scrape(server)

    assert queue_depths(samples, "a") == {"scheduled": 2, "retry": 0, "delayed": 1, "leased": 1}
    assert samples['runyard_queue_oldest_wait_seconds{task_key="a"}'] == 7
    assert samples["runyard_database_up"] == 1


async def test_a_released_run_enters_the_retry_queue_and_is_redelivered(server: RunningServer) -> None:
    await create_scheduled(server.client, "a")
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"], prefetch=1)
        (delivery,) = await socket.deliveries(1)
        await socket.connection.close()
    async with asyncio.timeout(10):
        while queue_depths(samples := await scrape(server), "a")["leased"]:
            continue
    assert queue_depths(samples, "a") == {"scheduled": 0, "retry": 1, "delayed": 0, "leased": 0}
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"], prefetch=1)
        await socket.deliveries(1)
        samples = await scrape(server)

    assert delivery["attempt"] == 1
    assert samples['runyard_deliveries_total{attempt="first"}'] == 1
    assert samples['runyard_deliveries_total{attempt="again"}'] == 1
    assert samples["runyard_claim_seconds_count"] >= 2


@SQLITE_ONLY
async def test_the_deepest_queues_are_labelled_and_the_rest_combined(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.observability.prometheus.MAX_TASK_KEY_LABELS", 2)
    for key, count in (("a", 1), ("b", 3), ("c", 2), ("d", 1)):
        for _ in range(count):
            await create_scheduled(server.client, key)

    samples = await scrape(server)

    keys = {match[1] for name in samples if (match := re.search(r'queue_runs\{.*task_key="(\w+)"', name))}
    assert keys == {"b", "c", "other"}
    assert queue_depths(samples, "other")["scheduled"] == 2


@SQLITE_ONLY
async def test_concurrent_scrapes_read_the_database_once(server: RunningServer) -> None:
    async with server.record_reads() as statements:
        await asyncio.gather(*(server.client.http.get("/metrics") for _ in range(5)))

    # The queue depths, and the numbers of running task runs and paused queues.
    assert len(statements) == 2


async def test_lost_leases_are_counted_by_outcome(server: RunningServer) -> None:
    await create_scheduled(server.client, "a")
    await create_scheduled(server.client, "b")
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"], prefetch=1)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["b"], prefetch=1)
        deliveries = await socket.deliveries(2)
        (started,) = [each for each in deliveries if each["taskRun"]["taskKey"] == "b"]
        state = {"type": "RUNNING"}
        await server.client.execute(
            "SetTaskRunState", id=started["taskRun"]["id"], leaseId=started["leaseId"], state=state
        )
        server.clock.advance(61)
        async with asyncio.timeout(10):
            while sum((lost := lost_leases(await scrape(server))).values()) < 2:
                continue

    assert lost == {"unacknowledged": 1, "lapsed": 0, "crashed": 1}


async def test_commits_are_measured(server: RunningServer) -> None:
    if server.services.database.is_shared:
        # The heartbeat of a server that starts is a commit too.
        async with asyncio.timeout(10):
            while not (await scrape(server))["runyard_commit_items_count"]:
                continue
    before = await scrape(server)
    await create_scheduled(server.client, "a")
    after = await scrape(server)

    assert after["runyard_commit_items_count"] == before["runyard_commit_items_count"] + 1
    assert after["runyard_commit_items_sum"] == before["runyard_commit_items_sum"] + 1
    assert after["runyard_commit_seconds_sum"] > before["runyard_commit_seconds_sum"]


@POSTGRESQL_ONLY
async def test_connection_pool_usage_is_reported(server: RunningServer) -> None:
    samples = await scrape(server)

    states = [samples[f'runyard_database_connections{{state="{state}"}}'] for state in ("used", "idle")]
    assert samples["runyard_database_connections_most"] == 10
    assert 2 <= sum(states) <= 10


async def test_a_scrape_succeeds_during_a_database_outage(tmp_path: Path) -> None:
    async with open_database(tmp_path / "runyard.db") as closed:
        feed = StateFeed(closed, FeedTimers(), backlog=1)
        waits = Waits.create(closed, poll_seconds=1)
        services = Services(closed, Dispatcher(closed, closed.clock, QueueTimers()), feed, waits, TaskRunMetrics())

    result = await PrometheusMetrics(OperationMetrics(), services)(Request({"type": "http", "headers": []}))

    lines = bytes(result.body).decode().splitlines()
    assert result.status_code == 200
    assert "runyard_database_up 0.0" in lines
    assert [line for line in lines if line.startswith("runyard_queue_runs{")] == []


async def test_two_servers_in_one_process_count_separately(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    async with run_server(tmp_path / "one") as one, run_server(tmp_path / "two") as two:
        await create_scheduled(one.client, "a")

        first, second = await scrape(one), await scrape(two)

    name = 'runyard_operations_total{operation="CreateTaskRun",outcome="ok"}'
    assert first[name] == 1
    assert name not in second


@SQLITE_ONLY
async def test_the_documentation_lists_every_metric(server: RunningServer) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
    documented = re.findall(r"^\| `(runyard_\w+)` \|", page, re.MULTILINE)

    metrics = await server.client.http.get("/metrics")

    assert re.findall(r"^# TYPE (runyard_\w+)", metrics.text, re.MULTILINE) == documented


async def test_metrics_can_be_disabled(tmp_path: Path) -> None:
    async with run_server(tmp_path, metrics=False) as server:
        await create_scheduled(server.client, "a")

        response = await server.client.http.get("/metrics")

        assert response.status_code == 404
        assert dict(server.app.state.operation_metrics.operations) == {}
