"""A result that is kept need not be made again."""

from typing import Any

import pytest

from db.enums import StateType
from db.records import StateDetails, StateRecord
from db.runtime.ids import new_id
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN, Policy
from resolvers.orchestration.rules.task_runs.retrieve_from_cache import retrieve_from_cache
from resolvers.orchestration.transition import LimitFacts, OrchestrationStatus
from tests.builders.transitions import NOW, in_seconds, propose, task_run, transition, under_flow_run
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history
from tests.serving import Serving

REASON = "A result is kept under this cache key."
ASKED = propose(StateType.RUNNING, cache_key="k")
TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"


def kept(**details: Any) -> StateRecord:
    """A state of another run, kept under the key `k`."""
    text = StateDetails(cache_key="k", **details).to_json()
    return StateRecord(new_id(), "another run", StateType.COMPLETED, "Mine", NOW, "Why", '{"a":1}', text, None)


# --- the rule ---


def test_a_kept_state_takes_the_place_of_running_under_the_name_cached() -> None:
    cached = kept(cache_expiration=in_seconds(60), untrackable_result=True)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), ASKED, cached=cached))

    copy = propose(
        StateType.COMPLETED,
        name="Cached",
        message="Why",
        data='{"a":1}',
        cache_key="k",
        cache_expiration=in_seconds(60),
        untrackable_result=True,
    )
    assert decision == Decision(OrchestrationStatus.REJECT, copy, REASON)


def test_the_copy_bears_the_transition_that_asked_for_it_and_not_that_of_the_original() -> None:
    asked = propose(StateType.RUNNING, cache_key="k", transition_id="new")

    decision = decide(
        [retrieve_from_cache], transition(task_run(StateType.PENDING), asked, cached=kept(transition_id="old"))
    )

    assert decision.state is not None
    assert decision.state.details == StateDetails(cache_key="k", transition_id="new")


def test_where_nothing_is_kept_the_run_goes_ahead() -> None:
    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), ASKED))

    assert decision == Decision(OrchestrationStatus.ACCEPT, ASKED)


@pytest.mark.parametrize("key", [None, ""])
def test_a_run_that_names_no_key_takes_no_result(key: str | None) -> None:
    asked = propose(StateType.RUNNING, cache_key=key)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), asked, cached=kept()))

    assert decision == Decision(OrchestrationStatus.ACCEPT, asked)


@pytest.mark.parametrize(
    ("refresh", "status"),
    [(None, OrchestrationStatus.REJECT), (False, OrchestrationStatus.REJECT), (True, OrchestrationStatus.ACCEPT)],
)
def test_only_a_run_that_asks_to_refresh_the_cache_runs_all_the_same(
    refresh: bool | None, status: OrchestrationStatus
) -> None:
    asked = propose(StateType.RUNNING, cache_key="k", refresh_cache=refresh)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), asked, cached=kept()))

    assert decision.status is status


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_takes_a_result(entering: StateType) -> None:
    asked = propose(entering, cache_key="k")

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), asked, cached=kept()))

    assert decision == Decision(OrchestrationStatus.ACCEPT, asked)


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_kept_result_comes_before_all_that_would_hold_the_run_back(rules: Policy) -> None:
    limits = [LimitFacts("id", "x", 0, 0)]
    held_back = [
        transition(task_run(StateType.PENDING), ASKED, cached=kept(), flow_run=under_flow_run(StateType.PAUSED)),
        transition(task_run(StateType.PENDING), ASKED, cached=kept(), flow_run=under_flow_run(StateType.PENDING)),
        transition(task_run(StateType.PENDING), ASKED, cached=kept(), limits=limits),
        transition(task_run(StateType.COMPLETED, data="1"), ASKED, cached=kept()),
        transition(
            task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(86_400))), ASKED, cached=kept()
        ),
    ]

    decisions = [decide(rules, each) for each in held_back]

    assert [(each.status, each.state and each.state.name) for each in decisions] == [
        (OrchestrationStatus.REJECT, "Cached")
    ] * 5


def test_force_asks_no_cache() -> None:
    assert retrieve_from_cache not in policy.FORCED


# --- as clients meet it ---


async def keep(client: Client, data: object, *, key: str = "k", expires: str | None = None, **fields: Any) -> str:
    """A run that is COMPLETED with this result, kept under the key; its id."""
    id = await create(client, "RUNNING", **fields)
    details = {"cacheKey": key, "cacheExpiration": expires}
    state = {"type": "COMPLETED", "message": f"made {data}", "data": data, "details": details}
    answer = await client.ask("SetTaskRunState", id=id, state=state)
    assert answer["status"] == "ACCEPT"
    return id


async def start(client: Client, id: str, **arguments: Any) -> dict[str, Any]:
    return await ask(client, id, "RUNNING", details={"cacheKey": "k"}, **arguments)


async def taken(client: Client) -> object:
    """What a fresh run that asks for `k` gets: the data of the kept result, or None where it has to run."""
    answer = await start(client, await create(client, "PENDING"))
    assert (answer["status"], answer["state"]["type"]) in {("REJECT", "COMPLETED"), ("ACCEPT", "RUNNING")}
    return answer["state"]["data"]


async def test_a_client_is_given_the_result_as_a_state_of_its_own_run(client: Client) -> None:
    other = await keep(client, {"type": "reference"})
    id = await create(client, "PENDING")

    answer = await start(client, id)

    original = (await client.ask("GetTaskRun", id=other))["state"]
    assert (answer["status"], answer["created"], answer["reason"]) == ("REJECT", True, REASON)
    assert answer["state"]["id"] != original["id"]
    assert (answer["state"]["name"], answer["state"]["message"], answer["state"]["data"]) == (
        "Cached",
        original["message"],
        {"type": "reference"},
    )
    run = await client.ask("GetTaskRun", id=id)
    assert (run["state"]["details"]["taskRunId"], run["state"]["details"]["cacheKey"]) == (id, "k")
    assert (run["runCount"], run["startTime"], run["endTime"]) == (0, None, None)
    assert await history(client, id) == ["Pending", "Cached"]


async def test_a_result_serves_until_it_expires_and_not_from_then_on(server: Serving) -> None:
    await keep(server.client, 1, expires=server.clock.in_seconds(60))

    server.clock.advance(59.999999)
    before = await taken(server.client)
    server.clock.advance(0.000001)
    after = await taken(server.client)

    assert (before, after) == (1, None)


async def test_the_newest_result_is_taken(server: Serving) -> None:
    await keep(server.client, 1)
    server.clock.advance(1)
    await keep(server.client, 2)

    assert await taken(server.client) == 2


async def test_of_two_results_of_one_moment_the_second_is_taken(client: Client) -> None:
    ids = [await create(client, "RUNNING"), await create(client, "RUNNING")]
    states = [{"type": "COMPLETED", "data": data, "details": {"cacheKey": "k"}} for data in (1, 2)]
    await client.ask(
        "SetTaskRunStates", inputs=[{"id": id, "state": state} for id, state in zip(ids, states, strict=True)]
    )

    assert await taken(client) == 2


async def test_an_older_result_serves_once_the_newer_one_has_expired(server: Serving) -> None:
    await keep(server.client, 1)
    server.clock.advance(1)
    await keep(server.client, 2, expires=server.clock.in_seconds(10))
    server.clock.advance(10)

    assert await taken(server.client) == 1


async def test_an_older_result_serves_once_the_newer_one_is_deleted(server: Serving) -> None:
    await keep(server.client, 1)
    server.clock.advance(1)
    newer = await keep(server.client, 2)

    await server.client.ask("DeleteTaskRun", id=newer)

    assert await taken(server.client) == 1


async def test_a_deleted_result_serves_nobody(client: Client) -> None:
    id = await keep(client, 1)

    await client.ask("DeleteTaskRun", id=id)

    assert await taken(client) is None


async def test_results_are_shared_by_all_tasks_in_flow_runs_and_in_the_background(client: Client) -> None:
    await keep(client, 1, flowRunId=await create_flow_run(client, "RUNNING"))
    await keep(client, 2, key="other")
    background = await create(client, "PENDING", dynamicKey="another")
    in_flow_run = await create(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))

    answers = [await start(client, id) for id in (background, in_flow_run)]

    assert [(each["status"], each["state"]["data"]) for each in answers] == [("REJECT", 1)] * 2


async def test_the_key_of_the_run_itself_is_not_asked_for(client: Client) -> None:
    await keep(client, 1)
    id = await create(client, "PENDING", cacheKey="k")

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["state"]["type"]) == ("ACCEPT", "RUNNING")


async def test_a_run_that_is_forced_to_run_takes_no_result(client: Client) -> None:
    await keep(client, 1)
    id = await create(client, "PENDING")

    answer = await start(client, id, force=True)

    assert (answer["status"], answer["state"]["type"], answer["taskRun"]["runCount"]) == ("ACCEPT", "RUNNING", 1)


async def test_a_background_run_that_is_created_running_takes_the_result_and_one_of_a_flow_run_runs(
    client: Client,
) -> None:
    await keep(client, 1)
    flow_run_id = await create_flow_run(client, "RUNNING")

    ids = [
        await create(client, "RUNNING", {"cacheKey": "k"}),
        await create(client, "RUNNING", {"cacheKey": "k"}, flowRunId=flow_run_id),
    ]

    assert [await history(client, id) for id in ids] == [["Cached"], ["Running"]]


async def test_a_running_run_that_is_given_a_result_has_ended_and_frees_its_slots(server: Serving) -> None:
    client = server.client
    await keep(client, 1)
    await client.ask("CreateConcurrencyLimit", tag="x", limit=1)
    id = await create(client, "RUNNING", tags=["x"])
    server.clock.advance(5)

    answer = await start(client, id)

    assert (answer["status"], answer["state"]["name"]) == ("REJECT", "Cached")
    assert (answer["taskRun"]["endTime"], answer["taskRun"]["totalRunTimeSeconds"]) == (
        "2030-01-01T12:00:05.000000Z",
        5.0,
    )
    assert (await client.ask("GetConcurrencyLimit", tag="x"))["activeSlots"] == []


async def test_a_result_serves_the_runs_that_come_after_it_in_one_call_and_not_those_before(client: Client) -> None:
    before, maker, after = [await create(client, "RUNNING") for _ in range(3)]
    types = [(before, "RUNNING"), (maker, "COMPLETED"), (after, "RUNNING")]

    rows = await client.ask(
        "SetTaskRunStates",
        inputs=[{"id": id, "state": {"type": type, "details": {"cacheKey": "k"}}} for id, type in types],
    )

    assert [(row["result"]["status"], row["result"]["state"]["name"]) for row in rows] == [
        ("ACCEPT", "Rerunning"),
        ("ACCEPT", "Completed"),
        ("REJECT", "Cached"),
    ]


async def test_a_result_serves_the_runs_that_are_created_after_it_in_one_call(client: Client) -> None:
    states = [{"type": type, "details": {"cacheKey": "k"}} for type in ("COMPLETED", "RUNNING")]

    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "state": state} for state in states])

    assert [payload["taskRun"]["stateType"] for payload in payloads] == ["COMPLETED", "COMPLETED"]


async def test_the_same_transition_again_answers_the_copy_that_it_was_given(client: Client) -> None:
    await keep(client, 1)
    id = await create(client, "PENDING")
    details = {"cacheKey": "k", "transitionId": TRANSITION}

    first, second = [await ask(client, id, "RUNNING", details=details) for _ in range(2)]

    assert (first["created"], second["created"]) == (True, False)
    assert second["state"] == first["state"]
    assert await history(client, id) == ["Pending", "Cached"]
