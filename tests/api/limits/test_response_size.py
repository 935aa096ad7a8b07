"""No operation reads or answers more than a server has memory for, however long what runs carry is, and whatever is long is
still answered, delivered and told one by one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from db.records import TaskRunRecord
from resolvers.delivery.claim import Delivery
from resolvers.delivery.dispatcher import CONTENDED
from resolvers.delivery.subscribers import MOST_WAITING, Subscriber
from resolvers.task_runs import NewTaskRun, blank_task_run
from runyard.settings import Settings
from tests.builders.queued_runs import run_ids
from tests.client import PATIENCE, Client
from tests.clock import START
from tests.serving import Serving, serving
from tests.state_change_followers import events, following

BODY = 64 * 1024
MOST = 16 * BODY
LONG = "x" * 60_000
"""As long as fits into a body; 17 of them are an answer that is still allowed."""

READ = {
    "message": f"More than {MOST:,} bytes would have to be read. Ask for fewer runs at once, or for less of each; "
    "what a mutation has changed stays changed.",
    "code": "ANSWER_TOO_LARGE",
}
NOT_WRITTEN = READ | {
    "message": f"More than {MOST:,} bytes would have to be read. Ask for fewer runs at once, or for less of each; "
    "nothing was changed.",
}
ANSWERED = {
    "message": f"The answer would have more than {MOST:,} bytes; ask for fewer runs at once, or for less of each. "
    "What a mutation has changed stays changed.",
    "code": "ANSWER_TOO_LARGE",
}


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that allows little."""
    async with serving(
        tmp_path, database_url=database_url, max_body_bytes=BODY, max_message_bytes=BODY, max_answer_bytes=MOST
    ) as served:
        yield served


async def ask(client: Client, query: str, **variables: Any) -> Any:
    """The data, or the errors as the client sees them."""
    response = await client.http.post("/graphql", json={"query": query, "variables": variables})
    answer = response.json()
    if "errors" in answer:
        return [{"message": error["message"], **error["extensions"]} for error in answer["errors"]]
    return answer["data"]


async def create(client: Client, count: int, **fields: Any) -> list[str]:
    """The ids of new runs that carry long parameters."""
    ids: list[str] = []
    for number in range(count):
        new = {"taskKey": "t", "dynamicKey": f"d{number}", "parameters": LONG, **fields}
        ids.append((await client.ask("CreateTaskRun", input=new))["taskRun"]["id"])
    return ids


@asynccontextmanager
async def looking_again(server: Serving) -> AsyncIterator[None]:
    """Let the clock go on whenever due runs were passed over: PostgreSQL may still hold what a claim that was too much had
    locked."""

    async def go_on() -> None:
        while True:
            await server.clock.somebody_waits(CONTENDED.total_seconds())
            server.clock.advance(CONTENDED.total_seconds())

    going_on = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going_on.cancel()


async def claim_all(server: Serving, count: int) -> list[dict[str, Any]]:
    """What claims bring that want more than fits, until it is so many."""
    claimed: list[dict[str, Any]] = []
    async with looking_again(server), asyncio.timeout(PATIENCE):
        while len(claimed) < count:
            claimed += await server.client.ask("ClaimTaskRuns", taskKeys=["t"], limit=100, waitSeconds=60)
    assert len(claimed) == count
    return claimed


async def test_a_page_that_is_too_long_is_refused_and_a_shorter_one_is_answered(client: Client) -> None:
    ids = await create(client, 20)
    page = "query ($first: Int) { taskRuns(first: $first, sort: EXPECTED_START_TIME_ASC) { nodes { id parameters } } }"

    assert await ask(client, page, first=20) == [READ]
    answer = await ask(client, page, first=16)
    assert answer["taskRuns"]["nodes"] == [{"id": id, "parameters": LONG} for id in ids[:16]]


async def test_what_is_not_asked_for_counts_nothing(client: Client) -> None:
    ids = await create(client, 20)

    answer = await ask(
        client, "{ taskRuns(sort: EXPECTED_START_TIME_ASC) { nodes { id name } edges { node { id } } } }"
    )

    assert [node["id"] for node in answer["taskRuns"]["nodes"]] == ids


async def test_all_fields_of_an_operation_share_what_may_be_read(client: Client) -> None:
    await create(client, 9)
    both = "{ a: taskRuns { nodes { parameters } } b: taskRuns { nodes { parameters } } }"

    assert READ in await ask(client, both)
    assert list(await ask(client, "{ a: taskRuns { nodes { parameters } } b: taskRuns { nodes { id } } }")) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("attribute", ["parameters", "state { message data }", "taskInputs", "tags", "name"])
async def test_whatever_a_run_has_counts(client: Client, attribute: str) -> None:
    long = {
        "parameters": {"parameters": LONG},
        "state { message data }": {"state": {"type": "COMPLETED", "message": LONG}},
        "taskInputs": {"taskInputs": {LONG: []}},
        "tags": {"tags": [LONG]},
        "name": {"name": LONG},
    }[attribute]
    await create(client, 20, **{"parameters": None} | long)

    assert await ask(client, f"{{ taskRuns {{ nodes {{ {attribute} }} }} }}") == [READ]
    # By records, since a history has no columns.
    assert await ask(client, f"{{ taskRuns {{ nodes {{ {attribute} states {{ id }} }} }} }}") == [READ]


async def test_a_run_that_is_named_again_and_again_is_answered_as_often_as_there_is_room(client: Client) -> None:
    (id,) = await create(client, 1)
    nodes = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on TaskRun { parameters } } }"

    assert await ask(client, nodes, ids=[id] * 18) == [ANSWERED]
    assert await ask(client, nodes, ids=[id] * 17) == {"nodes": [{"parameters": LONG}] * 17}


@pytest.mark.parametrize("more", ["", "states { id }"])
async def test_a_value_counts_under_each_name_that_it_is_given(client: Client, more: str) -> None:
    (id,) = await create(client, 1)

    def asked(names: int) -> str:
        return f"{{ taskRun(id: {id!r}) {{ {more} {' '.join(f'n{n}: parameters' for n in range(names))} }} }}".replace(
            "'", '"'
        )

    assert await ask(client, asked(19)) == [ANSWERED]
    answer = await ask(client, asked(17))
    assert [answer["taskRun"][f"n{n}"] for n in range(17)] == [LONG] * 17


async def test_details_count_under_each_name_that_they_are_given(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    details = {"pauseKey": LONG}
    await client.ask("SetTaskRunState", id=id, state={"type": "PAUSED", "details": details}, force=True)
    names = " ".join(f"n{number}: pauseKey" for number in range(19))

    assert await ask(client, f'{{ taskRun(id: "{id}") {{ state {{ details {{ {names} }} }} }} }}') == [ANSWERED]


async def test_what_runs_have_in_common_counts_for_each_of_them(client: Client) -> None:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]["id"]
    made = await client.ask("CreateFlowRun", input={"flowId": flow, "parameters": {"long": LONG}})
    await create(client, 20, flowRunId=made["flowRun"]["id"], parameters=None)

    assert await ask(client, "{ taskRuns { nodes { flowRun { parameters } } } }") == [READ]
    assert await ask(client, "{ taskRuns { nodes { states { id } flowRun { parameters } } } }") == [ANSWERED]


async def test_a_list_counts_under_each_name_although_it_is_read_once(client: Client) -> None:
    await create(client, 9)
    both = "a: taskRuns { nodes { states { id } parameters } } b: taskRuns { nodes { states { id } parameters } }"

    assert await ask(client, f"{{ {both} }}") == [ANSWERED]


async def test_the_states_of_runs_count(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    for _ in range(18):
        state = {"type": "RUNNING", "message": LONG}
        await client.ask("SetTaskRunState", id=id, state=state, force=True)

    assert await ask(client, f'{{ taskRun(id: "{id}") {{ states {{ message }} }} }}') == [READ]


async def test_the_names_of_states_in_a_history_count(server: Serving) -> None:
    client = server.client
    history = """query ($start: DateTime!, $end: DateTime!, $seconds: Float!, $ids: [ID!]) {
        taskRunHistory(start: $start, end: $end, intervalSeconds: $seconds, filter: {id: {any: $ids}}) {
            states { stateName } } }"""
    ids: list[str] = []
    for number in range(20):
        state = {"type": "SCHEDULED", "name": f"{number} {LONG}"}
        ids += await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)
    now = START.isoformat()
    span = {"start": now, "end": (START + timedelta(seconds=1)).isoformat(), "seconds": 1}

    assert await ask(client, history, **span, ids=None) == [READ]
    assert await ask(client, history, **span, ids=ids) == [READ]
    (interval,) = (await ask(client, history, **span, ids=ids[:16]))["taskRunHistory"]
    assert sorted(len(each["stateName"]) for each in interval["states"]) == [60_002] * 10 + [60_003] * 6


async def test_the_name_of_a_state_counts_for_each_interval_of_a_history_and_each_time_it_is_named(
    server: Serving,
) -> None:
    client = server.client
    for number in range(20):
        moment = (START + timedelta(seconds=number)).isoformat()
        state = {"type": "SCHEDULED", "name": LONG, "details": {"scheduledTime": moment}}
        await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)

    async def history(seconds: int, names: str) -> Any:
        end = (START + timedelta(seconds=seconds)).isoformat()
        arguments = f'start: "{START.isoformat()}", end: "{end}", intervalSeconds: 1'
        return await ask(client, f"{{ taskRunHistory({arguments}) {{ states {{ {names} }} }} }}")

    assert await history(20, "stateName") == [READ]
    assert await history(10, "stateName again: stateName") == [ANSWERED]
    assert await history(20, "countRuns") == {"taskRunHistory": [{"states": [{"countRuns": 1}]}] * 20}
    answered = await history(16, "stateName")
    assert answered == {"taskRunHistory": [{"states": [{"stateName": LONG}]}] * 16}


async def test_the_names_of_states_in_a_history_count_as_they_are_written_in_json(server: Serving) -> None:
    client = server.client
    for number in range(20):
        state = {"type": "SCHEDULED", "name": f"{number}" + "\x01" * 9_000}
        await create(client, 1, dynamicKey=f"n{number}", parameters=None, state=state)
    span = f'start: "{START.isoformat()}", end: "{(START + timedelta(seconds=1)).isoformat()}"'
    history = f"{{ taskRunHistory({span}, intervalSeconds: 1) {{ states {{ %s }} }} }}"

    assert await ask(client, history % "stateName") == [READ]
    assert await ask(client, history % "countRuns") == {"taskRunHistory": [{"states": [{"countRuns": 1}] * 20}]}


async def test_a_mutation_of_too_many_long_runs_is_refused_and_changes_nothing(client: Client) -> None:
    ids = await create(client, 20)
    known = [{"taskKey": "t", "dynamicKey": f"d{number}"} for number in range(20)]
    creation = "mutation ($inputs: [TaskRunCreateInput!]!) { createTaskRuns(inputs: $inputs) { created } }"
    setting = """mutation ($inputs: [TaskRunStateChangeInput!]!) {
        setTaskRunStates(inputs: $inputs) { error { code } } }"""
    changes = [{"id": id, "state": {"type": "RUNNING"}} for id in ids]

    assert await ask(client, creation, inputs=[{"taskKey": "new"}, *known]) == [NOT_WRITTEN]
    assert await ask(client, setting, inputs=changes) == [NOT_WRITTEN]
    assert await client.ask("CountTaskRuns", filter={"taskKey": {"any": ["new"]}}) == 0
    assert await client.ask("CountTaskRuns", filter={"state": {"type": {"any": ["PENDING"]}}}) == 20
    assert await ask(client, setting, inputs=changes[:10]) == {"setTaskRunStates": [{"error": None}] * 10}


async def test_what_is_too_much_beside_a_mutation_does_not_take_it_back(client: Client) -> None:
    (id,) = await create(client, 1, parameters=None)
    for _ in range(18):
        await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING", "message": LONG}, force=True)
    setting = f"""mutation {{ setTaskRunState(id: "{id}", state: {{type: COMPLETED}}, force: true) {{
        taskRun {{ states {{ message }} }} }} }}"""

    assert await ask(client, setting) == [READ]
    assert await client.ask("CountTaskRuns", filter={"state": {"type": {"any": ["COMPLETED"]}}}) == 1


async def test_writers_that_are_too_much_together_are_served_one_by_one(server: Serving) -> None:
    client = server.client
    ids = await create(client, 40)

    answers = await asyncio.gather(
        *(client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}) for id in ids), return_exceptions=True
    )

    assert [answer["status"] for answer in answers if isinstance(answer, dict)] == ["ACCEPT"] * 40
    assert await client.ask("CountTaskRuns", filter={"state": {"type": {"any": ["RUNNING"]}}}) == 40


async def test_long_runs_are_delivered_however_many_a_worker_asks_for(server: Serving) -> None:
    client = server.client
    ids = await create(client, 40, state={"type": "SCHEDULED"})

    async with client.socket() as socket, looking_again(server):
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=100)
        deliveries = await socket.deliveries(40)

    assert run_ids(deliveries) == ids
    assert {each["taskRun"]["parameters"] for each in deliveries} == {LONG}
    assert {each["attempt"] for each in deliveries} == {1}


async def test_long_runs_are_claimed_handed_back_and_taken_back_however_many_they_are(server: Serving) -> None:
    client = server.client
    ids = await create(client, 40, state={"type": "SCHEDULED"})

    first = await claim_all(server, 40)
    assert sorted(run_ids(first)) == sorted(ids)
    leases = [each["leaseId"] for each in first]
    released = await client.ask("ReleaseTaskRuns", leaseIds=leases)
    assert [each["status"] for each in released] == ["HELD"] * 40
    assert sorted(run_ids(await claim_all(server, 40))) == sorted(ids)
    server.clock.advance(60)
    await server.sweep()
    assert {each["attempt"] for each in await claim_all(server, 40)} == {3}


async def test_a_sweep_takes_back_runs_with_long_tags_however_many_they_are(server: Serving) -> None:
    client = server.client
    ids = await create(client, 20, parameters=None, tags=[LONG], state={"type": "SCHEDULED"})
    assert sorted(run_ids(await claim_all(server, 20))) == sorted(ids)

    server.clock.advance(60)
    async with asyncio.timeout(PATIENCE):
        while server.life.dispatcher.counts.taken_back.total() < 20:
            await client.http.get("/healthz")

    assert server.life.dispatcher.counts.taken_back == {"unacknowledged": 20}


async def test_changes_of_long_runs_are_told_one_after_the_other(server: Serving) -> None:
    async with following(server) as socket:
        await create(server.client, 1, taskKey="first", parameters=None)
        before = (await socket.event())["cursor"]
    ids = await create(server.client, 40)

    async with following(server, count=0, after=before) as socket:
        told = await events(socket, 40)

    assert [event["taskRun"]["id"] for event in told] == ids
    assert not any(event["gap"] for event in told)


async def test_an_event_that_is_too_long_is_told_as_such_and_the_stream_goes_on(client: Client) -> None:
    names = " ".join(f"n{number}: parameters" for number in range(18))
    query = f"subscription {{ taskRunStateChanges {{ taskRun {{ taskKey {names} }} }} }}"
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
        # It is answered once the subscription is known.
        await socket.send({"type": "ping"})
        assert (await socket.receive())["type"] == "pong"
        await create(client, 1)
        long = await socket.receive()
        await create(client, 1, taskKey="short", parameters=1)
        short = await socket.receive()

    assert long["payload"]["data"] is None
    assert [error["extensions"] for error in long["payload"]["errors"]] == [{"code": "ANSWER_TOO_LARGE"}]
    assert short["payload"]["data"]["taskRunStateChanges"]["taskRun"]["taskKey"] == "short"


def long_run(characters: int) -> TaskRunRecord:
    return blank_task_run(NewTaskRun("t", "d", parameters="x" * characters), START.isoformat())


def deliveries_of(sizes: Sequence[int]) -> list[Delivery]:
    return [Delivery(1, f"lease-{place}", "", 1, long_run(size)) for place, size in enumerate(sizes)]


async def test_a_subscriber_that_does_not_take_what_is_there_is_given_no_more(server: Serving) -> None:
    subscriber = Subscriber(1, ["t"], 100, 60, None)

    subscriber.hand(deliveries_of([MOST_WAITING // 2, MOST_WAITING // 2]))
    assert subscriber.demand.credit == 0
    assert len(await subscriber.next(server.clock, 60) or ()) == 1
    assert subscriber.was_full
    assert subscriber.demand.credit == 98


@pytest.mark.parametrize("limit", ["max_body_bytes", "max_message_bytes"])
def test_one_run_can_always_be_answered(limit: str) -> None:
    limits = {"max_body_bytes": BODY, "max_message_bytes": BODY, limit: BODY + 1, "max_answer_bytes": MOST}
    with pytest.raises(ValidationError, match="max_answer_bytes has to be at least 16 times max_body_bytes and"):
        Settings(**limits)  # type: ignore[arg-type]


async def test_one_run_is_delivered_and_told_even_where_the_limits_were_larger_once(
    database_url: str, tmp_path: Path
) -> None:
    long = "x" * 2 * MOST
    async with serving(tmp_path, database_url=database_url) as before:
        await create(before.client, 1, parameters=long, state={"type": "SCHEDULED"})
        await create(before.client, 1, dynamicKey="d1", state={"type": "SCHEDULED"})
    limits = {"max_body_bytes": BODY, "max_message_bytes": BODY, "max_answer_bytes": MOST}
    async with serving(tmp_path, database_url=database_url, **limits) as server:
        query = """subscription { scheduledTaskRuns(taskKeys: ["t"], prefetch: 9) { taskRun { dynamicKey } } }"""
        async with server.client.socket() as socket, looking_again(server):
            await socket.send({"id": "1", "type": "subscribe", "payload": {"query": query}})
            delivered = await socket.deliveries(2)

    assert [each["taskRun"]["dynamicKey"] for each in delivered] == ["d0", "d1"]
