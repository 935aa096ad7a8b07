"""State.actor: the token whose request has set a state."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from queries import document
from tests.bearer_tokens import bearer_headers
from tests.client import TIMEOUT_SECONDS, Client, Socket
from tests.serving import RunningServer, run_server

SCHEDULED = {"type": "SCHEDULED"}


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


class Caller:
    """Sends operations with one token."""

    def __init__(self, client: Client, headers: dict[str, str]) -> None:
        self._client = client
        self.headers = headers

    async def execute(self, operation: str, **variables: Any) -> Any:
        body = {"query": document(operation)[0], "variables": variables}
        response: httpx.Response = await self._client.http.post("/graphql", json=body, headers=self.headers)
        result = response.json()
        assert "errors" not in result, result
        (value,) = result["data"].values()
        return value

    async def task_run_actors(self, id: str) -> list[tuple[str, str | None]]:
        """Return the name and the actor of each state of a task run, oldest first."""
        run = await self.execute("GetTaskRun", id=id)
        return [(state["name"], state["actor"]) for state in run["states"]]

    async def flow_run_actors(self, id: str) -> list[tuple[str, str | None]]:
        run = await self.execute("GetFlowRun", id=id)
        return [(state["name"], state["actor"]) for state in run["states"]]


@pytest.fixture
async def alice(server: RunningServer) -> Caller:
    return Caller(server.client, await bearer_headers(server, "write", "work", name="alice"))


@pytest.fixture
async def bob(server: RunningServer) -> Caller:
    return Caller(server.client, await bearer_headers(server, "write", "work", name="bob"))


async def test_each_state_has_the_name_of_the_token_that_set_it(alice: Caller, bob: Caller) -> None:
    id = (await alice.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
    await bob.execute("SetTaskRunState", id=id, state={"type": "RUNNING"})
    inputs = [{"taskRunId": id, "state": {"type": "COMPLETED"}}]
    await alice.execute("SetTaskRunStates", inputs=inputs)

    assert await alice.task_run_actors(id) == [("Pending", "alice"), ("Running", "bob"), ("Completed", "alice")]


async def test_a_token_without_a_name_is_shown_by_its_id(server: RunningServer) -> None:
    headers = await bearer_headers(server, "write")
    caller = Caller(server.client, headers)
    id = (await caller.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]

    token_id = headers["Authorization"].split("_")[1]
    assert await caller.task_run_actors(id) == [("Pending", token_id)]


async def test_a_state_that_a_rule_sets_instead_has_the_actor_of_the_proposal(alice: Caller, bob: Caller) -> None:
    input = {"taskKey": "t", "state": SCHEDULED, "retryPolicy": {"retries": 1}}
    id = (await alice.execute("CreateTaskRun", input=input))["taskRun"]["id"]
    await bob.execute("SetTaskRunState", id=id, state={"type": "RUNNING"})
    await bob.execute("SetTaskRunState", id=id, state={"type": "FAILED"})
    await alice.execute("SetTaskRunState", id=id, state={"type": "CANCELLING"}, force=True)

    assert await alice.task_run_actors(id) == [
        ("Scheduled", "alice"),
        ("Running", "bob"),
        ("AwaitingRetry", "bob"),
        ("Cancelling", "alice"),
        ("Cancelled", "alice"),
    ]


async def test_bulk_changes_store_the_actor(alice: Caller, bob: Caller) -> None:
    created = (await alice.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "state": SCHEDULED}]))["results"]
    id = created[0]["taskRun"]["id"]
    filter = {"id": {"in": [id]}}
    await bob.execute("RescheduleTaskRuns", filter=filter, scheduledTime="2030-01-02T00:00:00Z")
    await alice.execute("CancelTaskRuns", filter=filter)
    await bob.execute("RetryTaskRuns", filter=filter)

    actors = [actor for _, actor in await alice.task_run_actors(id)]
    assert actors == ["alice", "bob", "alice", "bob"]


async def test_states_of_flow_runs_and_their_copies_have_the_actor(alice: Caller, bob: Caller) -> None:
    parent = (await bob.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
    flow = (await alice.execute("CreateFlow", input={"name": "etl"}))["flow"]["id"]
    input = {"flowId": flow, "parentTaskRunId": parent}
    id = (await alice.execute("CreateFlowRun", input=input))["flowRun"]["id"]
    await bob.execute("SetFlowRunState", id=id, state={"type": "RUNNING"})
    await alice.execute("CancelFlowRuns", filter={"id": {"in": [id]}})

    names = [("Pending", "alice"), ("Running", "bob"), ("Cancelling", "alice")]
    assert await alice.flow_run_actors(id) == names
    assert await alice.task_run_actors(parent) == [("Pending", "bob"), *names]


async def test_states_that_the_server_sets_have_no_actor(server: RunningServer, alice: Caller) -> None:
    id = (await alice.execute("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED}))["taskRun"]["id"]
    claimed = await alice.execute("ClaimTaskRuns", taskKeys=["t"], limit=1, leaseSeconds=30)
    lease = claimed["deliveries"][0]["leaseId"]
    await alice.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=lease)

    server.clock.advance(31)
    await server.sweep()

    assert await alice.task_run_actors(id) == [("Scheduled", "alice"), ("Running", "alice"), ("WorkerLost", None)]


@pytest.mark.parametrize("operation", ["ClaimTaskRuns", "ExchangeTaskRuns", "ScheduledTaskRuns"])
async def test_a_claim_that_starts_a_run_sets_the_state_for_its_token(
    server: RunningServer, alice: Caller, bob: Caller, operation: str
) -> None:
    id = (await alice.execute("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED}))["taskRun"]["id"]
    if operation == "ClaimTaskRuns":
        await bob.execute(operation, taskKeys=["t"], start=True)
    elif operation == "ExchangeTaskRuns":
        await bob.execute(operation, reports=[], renew=[], claim={"taskKeys": ["t"], "start": True})
    else:
        async with server.client.raw_socket() as connection:
            socket = Socket(connection)
            await socket.send({"type": "connection_init", "payload": bob.headers})
            assert await socket.receive() == {"type": "connection_ack"}
            await socket.subscribe(operation, taskKeys=["t"], start=True)
            await socket.deliveries(1)

    assert (await alice.task_run_actors(id))[:2] == [("Scheduled", "alice"), ("Running", "bob")]


async def test_a_claim_that_finds_a_cached_result_sets_the_state_for_its_token(alice: Caller, bob: Caller) -> None:
    cached = {"type": "COMPLETED", "details": {"cacheKey": "k"}}
    first = (await alice.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
    await alice.execute("SetTaskRunState", id=first, state=cached)
    input = {"taskKey": "t", "state": SCHEDULED, "cacheKey": "k"}
    id = (await alice.execute("CreateTaskRun", input=input))["taskRun"]["id"]

    await bob.execute("ClaimTaskRuns", taskKeys=["t"], start=True)

    assert await alice.task_run_actors(id) == [("Scheduled", "alice"), ("Cached", "bob")]


async def test_waiting_claims_of_two_tokens_keep_their_actors(
    server: RunningServer, alice: Caller, bob: Caller
) -> None:
    callers = {"alice": alice, "bob": bob}
    claims = [
        asyncio.create_task(caller.execute("ClaimTaskRuns", taskKeys=[name], start=True, waitSeconds=50))
        for name, caller in callers.items()
    ]
    await asyncio.wait_for(server.clock.wait_for_waiters(50, 2), TIMEOUT_SECONDS)

    inputs = [{"taskKey": name, "state": SCHEDULED} for name in callers]
    await alice.execute("CreateTaskRuns", inputs=inputs)

    for name, claim in zip(callers, claims, strict=True):
        (delivery,) = (await claim)["deliveries"]
        assert await alice.task_run_actors(delivery["taskRun"]["id"]) == [("Scheduled", "alice"), ("Running", name)]


async def test_states_over_a_websocket_have_the_actor_of_its_token(server: RunningServer, alice: Caller) -> None:
    async with server.client.raw_socket() as connection:
        socket = Socket(connection)
        await socket.send({"type": "connection_init", "payload": alice.headers})
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        id = (await socket.event())["taskRun"]["id"]

    assert await alice.task_run_actors(id) == [("Pending", "alice")]


async def test_requests_of_two_tokens_in_one_transaction_keep_their_actors(alice: Caller, bob: Caller) -> None:
    async def create(caller: Caller) -> str:
        return (await caller.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]

    ids = await asyncio.gather(*(create(caller) for caller in [alice, bob] * 10))

    actors = [(await alice.task_run_actors(id))[0][1] for id in ids]
    assert actors == ["alice", "bob"] * 10


async def test_without_authentication_there_is_no_actor(tmp_path: Path, database_url: str) -> None:
    async with run_server(tmp_path, database_url=database_url) as server:
        caller = Caller(server.client, {})
        id = (await caller.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
        await caller.execute("CancelTaskRuns", filter={"id": {"in": [id]}})

        assert await caller.task_run_actors(id) == [("Pending", None), ("Cancelled", None)]


@pytest.mark.parametrize(
    ("operation", "variables"),
    [
        ("CancelTaskRuns", {}),
        ("RetryTaskRuns", {}),
        ("RescheduleTaskRuns", {"scheduledTime": "2030-01-02T00:00:00Z"}),
        ("CancelFlowRuns", {}),
    ],
)
async def test_bulk_changes_require_the_scope_write(
    server: RunningServer, operation: str, variables: dict[str, Any]
) -> None:
    headers = await bearer_headers(server, "read", "work")
    body = {"query": document(operation)[0], "variables": {"filter": {"id": {"isNull": False}}, **variables}}

    response = await server.client.http.post("/graphql", json=body, headers=headers)

    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"
