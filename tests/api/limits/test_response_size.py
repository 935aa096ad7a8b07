"""Limits on what one operation reads and returns.

Runs of any size are still returned, delivered and streamed one by one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from db.records import TaskRunRecord
from resolvers.delivery.claim import Delivery
from resolvers.delivery.subscribers import MAX_UNSENT_CHARACTERS, Subscriber
from resolvers.task_runs import NewTaskRun, build_task_run
from runyard.settings import Settings
from tests.builders.api_runs import create_flow_run, create_task_run
from tests.builders.queued_runs import run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.clock import START
from tests.serving import RunningServer, run_server
from tests.state_change_followers import follow_state_changes, receive_events

BODY = 64 * 1024
MAX_BYTES = 16 * BODY
LONG_TEXT = "x" * 60_000
"""A string that still fits into a request body; 17 of them fit into a response."""

READ_TOO_LARGE = {
    "message": f"The data to read exceeds the limit of {MAX_BYTES:,} bytes. Request fewer items, or fewer fields of each. "
    "Changes made by a mutation are kept.",
    "code": "RESPONSE_TOO_LARGE",
}
WRITE_TOO_LARGE = READ_TOO_LARGE | {
    "message": f"The data to read exceeds the limit of {MAX_BYTES:,} bytes. Request fewer items, or fewer fields of each. "
    "Nothing was changed.",
}
RESULT_TOO_LARGE = {
    "message": f"The response exceeds the limit of {MAX_BYTES:,} bytes. Request fewer items, or fewer fields of each. "
    "Changes made by a mutation are kept.",
    "code": "RESPONSE_TOO_LARGE",
}


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server with small limits."""
    async with run_server(
        tmp_path,
        database_url=database_url,
        max_body_bytes=BODY,
        max_message_bytes=BODY,
        max_response_bytes=MAX_BYTES,
    ) as running:
        yield running


async def post_query(client: Client, query: str, **variables: Any) -> Any:
    """Execute the query and return the data, or the errors as the client receives them."""
    response = await client.http.post("/graphql", json={"query": query, "variables": variables})
    result = response.json()
    if "errors" in result:
        return [{"message": error["message"], **error["extensions"]} for error in result["errors"]]
    return result["data"]


async def create(client: Client, count: int, **fields: Any) -> list[str]:
    """Create runs with long parameters and return their ids."""
    given = [{"dynamicKey": f"d{number}", "parameters": LONG_TEXT, **fields} for number in range(count)]
    return [await create_task_run(client, **each) for each in given]


async def claim_all(server: RunningServer, count: int) -> list[dict[str, Any]]:
    """Claim more runs at once than a response holds, until `count` runs are claimed."""
    claimed: list[dict[str, Any]] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(claimed) < count:
            claimed += (await server.client.execute("ClaimTaskRuns", taskKeys=["t"], limit=100, waitSeconds=60))[
                "deliveries"
            ]
    assert len(claimed) == count
    return claimed


async def test_a_page_over_the_read_limit_is_refused_and_smaller_ones_succeed(client: Client) -> None:
    ids = await create(client, 20)
    page = "query ($first: Int) { taskRuns(first: $first, sort: EXPECTED_START_TIME_ASC) { nodes { id parameters } } }"

    assert await post_query(client, page, first=20) == [READ_TOO_LARGE]
    result = await post_query(client, page, first=16)
    assert result["taskRuns"]["nodes"] == [{"id": id, "parameters": LONG_TEXT} for id in ids[:16]]


async def test_unselected_fields_do_not_count(client: Client) -> None:
    ids = await create(client, 20)

    result = await post_query(
        client, "{ taskRuns(sort: EXPECTED_START_TIME_ASC) { nodes { id name } edges { node { id } } } }"
    )

    assert [node["id"] for node in result["taskRuns"]["nodes"]] == ids


async def test_all_fields_of_an_operation_share_one_read_limit(client: Client) -> None:
    await create(client, 9)
    both = "{ a: taskRuns { nodes { parameters } } b: taskRuns { nodes { parameters } } }"

    assert READ_TOO_LARGE in await post_query(client, both)
    assert list(await post_query(client, "{ a: taskRuns { nodes { parameters } } b: taskRuns { nodes { id } } }")) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("attribute", ["parameters", "state { message data }", "taskInputs", "tags", "name"])
async def test_every_attribute_of_variable_length_counts(client: Client, attribute: str) -> None:
    long = {
        "parameters": {"parameters": LONG_TEXT},
        "state { message data }": {"state": {"type": "COMPLETED", "message": LONG_TEXT}},
        "taskInputs": {"taskInputs": {LONG_TEXT: []}},
        "tags": {"tags": [LONG_TEXT]},
        "name": {"name": LONG_TEXT},
    }[attribute]
    await create(client, 20, **{"parameters": None} | long)

    assert await post_query(client, f"{{ taskRuns {{ nodes {{ {attribute} }} }} }}") == [READ_TOO_LARGE]
    # Selecting the state history makes the server read whole records instead of columns.
    assert await post_query(client, f"{{ taskRuns {{ nodes {{ {attribute} states {{ id }} }} }} }}") == [READ_TOO_LARGE]


async def test_a_run_requested_several_times_counts_each_time(client: Client) -> None:
    (id,) = await create(client, 1)
    nodes = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on TaskRun { parameters } } }"

    assert await post_query(client, nodes, ids=[id] * 18) == [RESULT_TOO_LARGE]
    assert await post_query(client, nodes, ids=[id] * 17) == {"nodes": [{"parameters": LONG_TEXT}] * 17}


@pytest.mark.parametrize("more", ["", "states { id }"])
async def test_a_value_counts_once_per_alias(client: Client, more: str) -> None:
    (id,) = await create(client, 1)

    def document(names: int) -> str:
        return f"{{ taskRun(id: {id!r}) {{ {more} {' '.join(f'n{n}: parameters' for n in range(names))} }} }}".replace(
            "'", '"'
        )

    assert await post_query(client, document(19)) == [RESULT_TOO_LARGE]
    result = await post_query(client, document(17))
    assert [result["taskRun"][f"n{n}"] for n in range(17)] == [LONG_TEXT] * 17


async def test_state_details_count_once_per_alias(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    details = {"pauseKey": LONG_TEXT}
    await client.execute("SetTaskRunState", id=id, state={"type": "PAUSED", "details": details}, force=True)
    names = " ".join(f"n{number}: pauseKey" for number in range(19))

    assert await post_query(client, f'{{ taskRun(id: "{id}") {{ state {{ details {{ {names} }} }} }} }}') == [
        RESULT_TOO_LARGE
    ]


async def test_a_shared_flow_run_counts_for_each_of_its_task_runs(client: Client) -> None:
    flow_run_id = await create_flow_run(client, parameters={"long": LONG_TEXT})
    await create(client, 20, flowRunId=flow_run_id, parameters=None)

    assert await post_query(client, "{ taskRuns { nodes { flowRun { parameters } } } }") == [READ_TOO_LARGE]
    assert await post_query(client, "{ taskRuns { nodes { states { id } flowRun { parameters } } } }") == [
        RESULT_TOO_LARGE
    ]


async def test_a_list_counts_once_per_alias_although_it_is_read_once(client: Client) -> None:
    await create(client, 9)
    both = "a: taskRuns { nodes { states { id } parameters } } b: taskRuns { nodes { states { id } parameters } }"

    assert await post_query(client, f"{{ {both} }}") == [RESULT_TOO_LARGE]


async def test_the_state_history_of_a_run_counts(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    for _ in range(18):
        state = {"type": "RUNNING", "message": LONG_TEXT}
        await client.execute("SetTaskRunState", id=id, state=state, force=True)

    assert await post_query(client, f'{{ taskRun(id: "{id}") {{ states {{ message }} }} }}') == [READ_TOO_LARGE]


async def test_state_names_in_a_task_run_history_count(server: RunningServer) -> None:
    client = server.client
    history = """query ($start: DateTime!, $end: DateTime!, $seconds: Float!, $ids: [ID!]) {
        taskRunHistory(start: $start, end: $end, intervalSeconds: $seconds, filter: {id: {in: $ids}}) {
            states { stateName } } }"""
    ids: list[str] = []
    for number in range(20):
        state = {"type": "SCHEDULED", "name": f"{number} {LONG_TEXT}"}
        ids += await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)
    now = START.isoformat()
    span = {"start": now, "end": (START + timedelta(seconds=1)).isoformat(), "seconds": 1}

    assert await post_query(client, history, **span, ids=None) == [READ_TOO_LARGE]
    assert await post_query(client, history, **span, ids=ids) == [READ_TOO_LARGE]
    (interval,) = (await post_query(client, history, **span, ids=ids[:16]))["taskRunHistory"]
    assert sorted(len(each["stateName"]) for each in interval["states"]) == [60_002] * 10 + [60_003] * 6


async def test_a_state_name_in_a_history_counts_per_interval_and_alias(
    server: RunningServer,
) -> None:
    client = server.client
    for number in range(20):
        moment = (START + timedelta(seconds=number)).isoformat()
        state = {"type": "SCHEDULED", "name": LONG_TEXT, "details": {"scheduledTime": moment}}
        await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)

    async def history(seconds: int, names: str) -> Any:
        end = (START + timedelta(seconds=seconds)).isoformat()
        arguments = f'start: "{START.isoformat()}", end: "{end}", intervalSeconds: 1'
        return await post_query(client, f"{{ taskRunHistory({arguments}) {{ states {{ {names} }} }} }}")

    assert await history(20, "stateName") == [READ_TOO_LARGE]
    assert await history(10, "stateName again: stateName") == [RESULT_TOO_LARGE]
    assert await history(20, "countRuns") == {"taskRunHistory": [{"states": [{"countRuns": 1}]}] * 20}
    fitting = await history(16, "stateName")
    assert fitting == {"taskRunHistory": [{"states": [{"stateName": LONG_TEXT}]}] * 16}


async def test_state_names_in_a_history_count_with_their_json_escapes(server: RunningServer) -> None:
    client = server.client
    for number in range(20):
        state = {"type": "SCHEDULED", "name": f"{number}" + "\x01" * 9_000}
        await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)
    span = f'start: "{START.isoformat()}", end: "{(START + timedelta(seconds=1)).isoformat()}"'
    history = f"{{ taskRunHistory({span}, intervalSeconds: 1) {{ states {{ %s }} }} }}"

    assert await post_query(client, history % "stateName") == [READ_TOO_LARGE]
    assert await post_query(client, history % "countRuns") == {"taskRunHistory": [{"states": [{"countRuns": 1}] * 20}]}


async def test_a_mutation_over_the_read_limit_is_refused_and_changes_nothing(client: Client) -> None:
    ids = await create(client, 20)
    known = [{"taskKey": "t", "dynamicKey": f"d{number}"} for number in range(20)]
    creation = "mutation ($inputs: [TaskRunCreateInput!]!) { createTaskRuns(inputs: $inputs) { results { created } } }"
    setting = """mutation ($inputs: [TaskRunStateChangeInput!]!) {
        setTaskRunStates(inputs: $inputs) { results { error { code } } } }"""
    changes = [{"taskRunId": id, "state": {"type": "RUNNING"}} for id in ids]

    assert await post_query(client, creation, inputs=[{"taskKey": "new"}, *known]) == [WRITE_TOO_LARGE]
    assert await post_query(client, setting, inputs=changes) == [WRITE_TOO_LARGE]
    assert await client.execute("CountTaskRuns", filter={"taskKey": {"in": ["new"]}}) == 0
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["PENDING"]}}}) == 20
    allowed = await post_query(client, setting, inputs=changes[:10])
    assert allowed == {"setTaskRunStates": {"results": [{"error": None}] * 10}}


async def test_an_oversized_mutation_result_does_not_roll_back_the_mutation(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    for _ in range(18):
        await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING", "message": LONG_TEXT}, force=True)
    setting = f"""mutation {{ setTaskRunState(id: "{id}", state: {{type: COMPLETED}}, force: true) {{
        taskRun {{ states {{ message }} }} }} }}"""

    assert await post_query(client, setting) == [READ_TOO_LARGE]
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["COMPLETED"]}}}) == 1


async def test_concurrent_writes_that_together_exceed_the_read_limit_all_succeed(server: RunningServer) -> None:
    client = server.client
    ids = await create(client, 40)

    results = await asyncio.gather(
        *(client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}) for id in ids), return_exceptions=True
    )

    assert [result["status"] for result in results if isinstance(result, dict)] == ["ACCEPT"] * 40
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["RUNNING"]}}}) == 40


async def test_long_runs_are_delivered_for_any_prefetch(server: RunningServer) -> None:
    client = server.client
    ids = await create(client, 40, state={"type": "SCHEDULED"})

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=100)
        deliveries = await socket.deliveries(40)

    assert run_ids(deliveries) == ids
    assert {each["taskRun"]["parameters"] for each in deliveries} == {LONG_TEXT}
    assert {each["attempt"] for each in deliveries} == {1}


async def test_any_number_of_long_runs_is_claimed_released_and_reclaimed(server: RunningServer) -> None:
    client = server.client
    ids = await create(client, 40, state={"type": "SCHEDULED"})

    first = await claim_all(server, 40)
    assert sorted(run_ids(first)) == sorted(ids)
    leases = [each["leaseId"] for each in first]
    released = (await client.execute("ReleaseTaskRuns", leaseIds=leases))["leases"]
    assert [each["status"] for each in released] == ["HELD"] * 40
    assert sorted(run_ids(await claim_all(server, 40))) == sorted(ids)
    server.clock.advance(60)
    await server.sweep()
    assert {each["attempt"] for each in await claim_all(server, 40)} == {3}


async def test_a_lease_sweep_recovers_any_number_of_runs_with_long_tags(server: RunningServer) -> None:
    client = server.client
    ids = await create(client, 20, parameters=None, tags=[LONG_TEXT], state={"type": "SCHEDULED"})
    assert sorted(run_ids(await claim_all(server, 20))) == sorted(ids)

    server.clock.advance(60)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.services.dispatcher.metrics.recovered.total() < 20:
            await client.http.get("/healthz")

    assert server.services.dispatcher.metrics.recovered == {"unacknowledged": 20}


async def test_state_changes_of_long_runs_are_streamed_one_by_one(server: RunningServer) -> None:
    async with follow_state_changes(server) as socket:
        await create(server.client, 1, taskKey="first", parameters=None)
        before = (await socket.event())["cursor"]
    ids = await create(server.client, 40)

    async with follow_state_changes(server, count=0, after=before) as socket:
        streamed = await receive_events(socket, 40)

    assert [event["taskRun"]["id"] for event in streamed] == ids
    assert not any(event["gap"] for event in streamed)


async def test_an_oversized_event_is_reported_and_the_stream_continues(server: RunningServer, client: Client) -> None:
    names = " ".join(f"n{number}: parameters" for number in range(18))
    query = f"subscription {{ taskRunStateChanges {{ taskRun {{ taskKey {names} }} }} }}"
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
        await asyncio.wait_for(server.clock.wait_until_idle(1), TIMEOUT_SECONDS)
        await create(client, 1)
        long = await socket.receive()
        await create(client, 1, taskKey="short", parameters=1)
        short = await socket.receive()

    assert long["payload"]["data"] is None
    assert [error["extensions"] for error in long["payload"]["errors"]] == [{"code": "RESPONSE_TOO_LARGE"}]
    assert short["payload"]["data"]["taskRunStateChanges"]["taskRun"]["taskKey"] == "short"


def long_run(characters: int) -> TaskRunRecord:
    return build_task_run(NewTaskRun("t", "d", parameters="x" * characters), START.isoformat())


def deliveries_of(sizes: Sequence[int]) -> list[Delivery]:
    return [Delivery(1, f"lease-{index}", "", 1, long_run(size)) for index, size in enumerate(sizes)]


async def test_a_subscriber_with_a_full_buffer_gets_no_more_credit(server: RunningServer) -> None:
    subscriber = Subscriber(1, ["t"], 100, 60, None)

    subscriber.enqueue(deliveries_of([MAX_UNSENT_CHARACTERS // 2, MAX_UNSENT_CHARACTERS // 2]))
    assert subscriber.demand.credit == 0
    assert len(await subscriber.next_deliveries(server.clock, 60) or ()) == 1
    assert subscriber.was_full
    assert subscriber.demand.credit == 98


@pytest.mark.parametrize("limit", ["max_body_bytes", "max_message_bytes"])
def test_limits_under_which_one_run_might_not_fit_are_refused(limit: str) -> None:
    limits = {
        "max_body_bytes": BODY,
        "max_message_bytes": BODY,
        limit: BODY + 1,
        "max_response_bytes": MAX_BYTES,
    }
    with pytest.raises(
        ValidationError, match="RUNYARD_MAX_RESPONSE_BYTES must be at least 16 times RUNYARD_MAX_BODY_BYTES and"
    ):
        Settings(**limits)  # type: ignore[arg-type]


async def test_runs_stored_under_larger_limits_are_still_delivered(database_url: str, tmp_path: Path) -> None:
    long = "x" * 2 * MAX_BYTES
    async with run_server(tmp_path, database_url=database_url) as before:
        await create(before.client, 1, parameters=long, state={"type": "SCHEDULED"})
        await create(before.client, 1, dynamicKey="d1", state={"type": "SCHEDULED"})
    limits = {"max_body_bytes": BODY, "max_message_bytes": BODY, "max_response_bytes": MAX_BYTES}
    async with run_server(tmp_path, database_url=database_url, **limits) as server:
        query = """subscription { scheduledTaskRuns(taskKeys: ["t"], prefetch: 9) { taskRun { dynamicKey } } }"""
        async with server.client.socket() as socket:
            await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
            delivered = await socket.deliveries(2)

    assert [each["taskRun"]["dynamicKey"] for each in delivered] == ["d0", "d1"]
