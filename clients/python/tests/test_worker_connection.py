"""What a worker does when requests fail, with scripted executors and a real server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import ANY, faulty_proxy
from runyard_client.errors import NotAllowed, RunyardError, ServerUnavailable
from runyard_client.testing.server import RunyardServer
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered, WorkerExit
from runyard_client.worker.settings import WorkerSettings
from scripted_executors import ScriptedLink, client_of, scripted_worker

COMPLETED = {"state": {"type": "COMPLETED", "data": {"result": 1}}}
UNAVAILABLE = {
    "errors": [{"message": "The database is busy.", "extensions": {"code": "UNAVAILABLE", "retryable": True}}],
    "data": {"claimTaskRuns": None},
}


class FailingRequests:
    """Raises these errors in turn; None is a success."""

    def __init__(self, *errors: RunyardError | None) -> None:
        self.errors = list(errors)

    async def execute(self, operation: str, variables: Any, *, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        if error := self.errors.pop(0):
            raise error
        return {}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def delay_after(connection: Connection) -> float:
    with pytest.raises(Unanswered) as caught:
        await connection.execute("ClaimTaskRuns", {})
    return round(caught.value.delay, 6)


async def test_delays_double_up_to_5_seconds() -> None:
    connection = Connection(FailingRequests(*[ServerUnavailable("away")] * 10), WorkerSettings(), chance=lambda: 1.0)

    delays = [await delay_after(connection) for _ in range(10)]

    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]


async def test_delays_start_again_after_10_seconds_of_health() -> None:
    clock, away = Clock(), ServerUnavailable("away")
    requests = FailingRequests(away, away, None, away, None, away)
    connection = Connection(requests, WorkerSettings(), clock=clock, chance=lambda: 1.0)
    first, second = await delay_after(connection), await delay_after(connection)
    clock.now += 5
    await connection.execute("ClaimTaskRuns", {})
    soon = await delay_after(connection)
    clock.now += 11
    await connection.execute("ClaimTaskRuns", {})
    later = await delay_after(connection)

    assert (first, second, soon, later) == (0.1, 0.2, 0.4, 0.1)


async def test_the_delay_is_at_least_what_the_server_asks_for() -> None:
    connection = Connection(FailingRequests(ServerUnavailable("busy", retry_after=30)), WorkerSettings())

    assert await delay_after(connection) == 30.0


async def test_a_token_that_stays_refused_ends_the_worker_with_3() -> None:
    clock, refused = Clock(), NotAllowed("The token is invalid.", code="UNAUTHENTICATED")
    connection = Connection(FailingRequests(refused, refused, refused), WorkerSettings(), clock=clock)
    await delay_after(connection)
    clock.now += 299
    await delay_after(connection)
    clock.now += 1

    with pytest.raises(WorkerExit) as caught:
        await connection.execute("ClaimTaskRuns", {})

    assert caught.value.code == 3


async def test_a_refused_token_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock, refused = Clock(), NotAllowed("The token is invalid.", code="UNAUTHENTICATED")
    connection = Connection(FailingRequests(*[refused] * 4), WorkerSettings(), clock=clock)
    for seconds in (0, 30, 30, 30):
        clock.now += seconds
        await delay_after(connection)

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.mark.parametrize("fault", ["503", "UNAVAILABLE", "lost"])
async def test_a_worker_continues_after_an_outage(
    server: RunyardServer, unique_key: Callable[[str], str], fault: str
) -> None:
    key = unique_key("outage")
    link = ScriptedLink(key, respond=lambda _: COMPLETED)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        if fault == "lost":
            proxy.lose_responses("ClaimTaskRuns", times=2)
        else:
            body = UNAVAILABLE if fault == "UNAVAILABLE" else None
            proxy.refuse("ClaimTaskRuns", 200 if fault == "UNAVAILABLE" else 503, times=2, body=body)
        async with scripted_worker(proxy.url, link, claim_wait_seconds=0.1) as worker:
            while proxy.count("ClaimTaskRuns") < 3:
                await proxy.next_request("ClaimTaskRuns")
            [run_id] = await client.create(key)
            [run] = await client.wait_ended(run_id)
            code = await worker.stop()

    assert code == 0
    assert run["state"]["type"] == "COMPLETED"


async def test_a_worker_without_the_scope_exits_with_3(
    tmp_path: Path, server: RunyardServer, unique_key: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    forbidden = {"errors": [{"message": "The token lacks a scope.", "extensions": {"code": "FORBIDDEN"}}], "data": None}
    async with faulty_proxy(server.url) as proxy:
        proxy.refuse("ClaimTaskRuns", 403, body=forbidden)
        async with scripted_worker(proxy.url, ScriptedLink(unique_key("scope"))) as worker:
            code = await worker.exit_code()

    assert code == 3
    assert "must have the scope `work`" in caplog.text


async def test_what_runs_is_finished_and_reported_with_a_new_token(
    tmp_path: Path, server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("token")
    link = ScriptedLink(key)
    refused = {"errors": [{"message": "The token is invalid.", "extensions": {"code": "UNAUTHENTICATED"}}]}
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link) as worker:
            [start] = await link.wait_for("start")
            proxy.refuse(ANY, 401, times=1_000, body=refused)
            proxy.cut_connections()
            link.finish(start["lease"])
            for _ in range(2):
                await proxy.next_response("ExchangeTaskRuns")
            proxy.stop_faults()
            [run] = await client.wait_ended(run_id)
            code = await worker.stop()

    assert code == 0
    assert run["state"]["type"] == "COMPLETED"


async def test_unknown_fields_and_values_are_ignored(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    link = ScriptedLink(unique_key("unknown"))
    delivery = {
        "leaseId": "11111111-1111-7111-8111-111111111111",
        "leaseExpiresAt": "2100-01-01T00:00:00Z",
        "attempt": 1,
        "isNew": True,
        "taskRun": {"id": "22222222-2222-7222-8222-222222222222", "name": "a", "taskKey": "other", "color": "red"},
    }
    claimed = {"data": {"claimTaskRuns": {"deliveries": [delivery], "cursor": 1}}, "extensions": {"cost": 1}}
    async with faulty_proxy(server.url) as proxy:
        proxy.refuse("ClaimTaskRuns", 200, body=claimed)
        async with scripted_worker(proxy.url, link) as worker:
            release = await proxy.next_response("ReleaseTaskRuns")
            code = await worker.stop()

    # A run that the worker did not claim is released.
    assert code == 0
    assert release.variables == {"leaseIds": [delivery["leaseId"]], "delaySeconds": 0.0}
    assert link.received("start") == []
