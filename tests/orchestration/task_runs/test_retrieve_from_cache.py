"""A cached result replaces a run with the same cache key."""

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
from tests.builders.api_runs import (
    create_flow_run,
    create_task_run,
    read_slot_holders,
    read_state_names,
    set_task_run_state,
)
from tests.builders.ids import TRANSITION_ID
from tests.builders.transitions import NOW, flow_run_facts, in_seconds, propose, task_run, transition
from tests.client import Client
from tests.serving import RunningServer

REASON = "A cached result exists for this cache key."
PROPOSED = propose(StateType.RUNNING, cache_key="k")


def cached_state(**details: Any) -> StateRecord:
    """Return a state of another run that is cached under the key `k`."""
    text = StateDetails(cache_key="k", **details).to_json()
    return StateRecord(new_id(NOW), "another run", StateType.COMPLETED, "Mine", NOW, "Why", '{"a":1}', text, None)


def test_a_cached_state_replaces_running_under_the_name_cached() -> None:
    cached = cached_state(cache_expires_at=in_seconds(60), untrackable_result=True)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), PROPOSED, cached=cached))

    copy = propose(
        StateType.COMPLETED,
        name="Cached",
        message="Why",
        data='{"a":1}',
        cache_key="k",
        cache_expires_at=in_seconds(60),
        untrackable_result=True,
    )
    assert decision == Decision(OrchestrationStatus.REJECT, copy, REASON)


def test_the_copy_has_the_requesting_transition_id_not_the_originals() -> None:
    proposed = propose(StateType.RUNNING, cache_key="k", transition_id="new")

    decision = decide(
        [retrieve_from_cache],
        transition(task_run(StateType.PENDING), proposed, cached=cached_state(transition_id="old")),
    )

    assert decision.state is not None
    assert decision.state.details == StateDetails(cache_key="k", transition_id="new")


def test_a_run_proceeds_on_a_cache_miss() -> None:
    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), PROPOSED))

    assert decision == Decision(OrchestrationStatus.ACCEPT, PROPOSED)


@pytest.mark.parametrize("key", [None, ""])
def test_a_run_without_a_cache_key_uses_no_cached_result(key: str | None) -> None:
    proposed = propose(StateType.RUNNING, cache_key=key)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), proposed, cached=cached_state()))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize(
    ("refresh", "status"),
    [(None, OrchestrationStatus.REJECT), (False, OrchestrationStatus.REJECT), (True, OrchestrationStatus.ACCEPT)],
)
def test_only_a_run_that_refreshes_the_cache_ignores_a_cached_result(
    refresh: bool | None, status: OrchestrationStatus
) -> None:
    proposed = propose(StateType.RUNNING, cache_key="k", refresh_cache=refresh)

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), proposed, cached=cached_state()))

    assert decision.status is status


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_uses_a_cached_result(entering: StateType) -> None:
    proposed = propose(entering, cache_key="k")

    decision = decide([retrieve_from_cache], transition(task_run(StateType.PENDING), proposed, cached=cached_state()))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_cached_result_takes_precedence_over_every_blocking_rule(rules: Policy) -> None:
    limits = [LimitFacts("id", "x", 0, 0)]
    blocked = [
        transition(
            task_run(StateType.PENDING), PROPOSED, cached=cached_state(), flow_run=flow_run_facts(StateType.PAUSED)
        ),
        transition(
            task_run(StateType.PENDING), PROPOSED, cached=cached_state(), flow_run=flow_run_facts(StateType.PENDING)
        ),
        transition(task_run(StateType.PENDING), PROPOSED, cached=cached_state(), limits=limits),
        transition(task_run(StateType.COMPLETED, data="1"), PROPOSED, cached=cached_state()),
        transition(
            task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(86_400))),
            PROPOSED,
            cached=cached_state(),
        ),
    ]

    decisions = [decide(rules, each) for each in blocked]

    assert [(each.status, each.state and each.state.name) for each in decisions] == [
        (OrchestrationStatus.REJECT, "Cached")
    ] * 5


def test_the_forced_policy_does_not_read_the_cache() -> None:
    assert retrieve_from_cache not in policy.FORCED


async def cache_result(
    client: Client, data: object, *, key: str = "k", expires: str | None = None, **fields: Any
) -> str:
    """Complete a new run with this result, cached under the key, and return its id."""
    id = await create_task_run(client, "RUNNING", **fields)
    details = {"cacheKey": key, "cacheExpiresAt": expires}
    state = {"type": "COMPLETED", "message": f"made {data}", "data": data, "details": details}
    result = await client.execute("SetTaskRunState", id=id, state=state)
    assert result["status"] == "ACCEPT"
    return id


async def start(client: Client, id: str, **arguments: Any) -> dict[str, Any]:
    return await set_task_run_state(client, id, "RUNNING", details={"cacheKey": "k"}, **arguments)


async def result_of_new_run(client: Client) -> object:
    """Return the data that a new run with the cache key `k` gets; None if it has to run."""
    result = await start(client, await create_task_run(client, "PENDING"))
    assert (result["status"], result["state"]["type"]) in {("REJECT", "COMPLETED"), ("ACCEPT", "RUNNING")}
    return result["state"]["data"]


async def test_a_client_gets_the_cached_result_as_its_own_runs_state(client: Client) -> None:
    other = await cache_result(client, {"type": "reference"})
    id = await create_task_run(client, "PENDING")

    result = await start(client, id)

    original = (await client.execute("GetTaskRun", id=other))["state"]
    assert (result["status"], result["stateCreated"], result["reason"]) == ("REJECT", True, REASON)
    assert result["state"]["id"] != original["id"]
    assert (result["state"]["name"], result["state"]["message"], result["state"]["data"]) == (
        "Cached",
        original["message"],
        {"type": "reference"},
    )
    run = await client.execute("GetTaskRun", id=id)
    assert (run["state"]["details"]["taskRunId"], run["state"]["details"]["cacheKey"]) == (id, "k")
    assert (run["runCount"], run["startTime"], run["endTime"]) == (0, None, None)
    assert await read_state_names(client, id) == ["Pending", "Cached"]


async def test_a_result_is_used_until_it_expires_and_not_after(server: RunningServer) -> None:
    await cache_result(server.client, 1, expires=server.clock.in_seconds(60))

    server.clock.advance(59.999999)
    before = await result_of_new_run(server.client)
    server.clock.advance(0.000001)
    after = await result_of_new_run(server.client)

    assert (before, after) == (1, None)


async def test_the_newest_result_is_used(server: RunningServer) -> None:
    await cache_result(server.client, 1)
    server.clock.advance(1)
    await cache_result(server.client, 2)

    assert await result_of_new_run(server.client) == 2


async def test_the_second_of_two_simultaneous_results_is_used(client: Client) -> None:
    ids = [await create_task_run(client, "RUNNING"), await create_task_run(client, "RUNNING")]
    states = [{"type": "COMPLETED", "data": data, "details": {"cacheKey": "k"}} for data in (1, 2)]
    await client.execute(
        "SetTaskRunStates", inputs=[{"taskRunId": id, "state": state} for id, state in zip(ids, states, strict=True)]
    )

    assert await result_of_new_run(client) == 2


async def test_an_older_result_is_used_after_the_newer_one_expires(server: RunningServer) -> None:
    await cache_result(server.client, 1)
    server.clock.advance(1)
    await cache_result(server.client, 2, expires=server.clock.in_seconds(10))
    server.clock.advance(10)

    assert await result_of_new_run(server.client) == 1


async def test_an_older_result_is_used_after_the_newer_one_is_deleted(server: RunningServer) -> None:
    await cache_result(server.client, 1)
    server.clock.advance(1)
    newer = await cache_result(server.client, 2)

    await server.client.execute("DeleteTaskRun", id=newer)

    assert await result_of_new_run(server.client) == 1


async def test_a_deleted_result_is_not_used(client: Client) -> None:
    id = await cache_result(client, 1)

    await client.execute("DeleteTaskRun", id=id)

    assert await result_of_new_run(client) is None


async def test_results_are_shared_between_flow_runs_and_background_runs(client: Client) -> None:
    await cache_result(client, 1, flowRunId=await create_flow_run(client, "RUNNING"))
    await cache_result(client, 2, key="other")
    background = await create_task_run(client, "PENDING", dynamicKey="another")
    in_flow_run = await create_task_run(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))

    results = [await start(client, id) for id in (background, in_flow_run)]

    assert [(each["status"], each["state"]["data"]) for each in results] == [("REJECT", 1)] * 2


async def test_the_runs_own_cache_key_is_not_looked_up(client: Client) -> None:
    await cache_result(client, 1)
    id = await create_task_run(client, "PENDING", cacheKey="k")

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["state"]["type"]) == ("ACCEPT", "RUNNING")


async def test_a_forced_run_uses_no_cached_result(client: Client) -> None:
    await cache_result(client, 1)
    id = await create_task_run(client, "PENDING")

    result = await start(client, id, force=True)

    assert (result["status"], result["state"]["type"], result["taskRun"]["runCount"]) == ("ACCEPT", "RUNNING", 1)


async def test_only_a_background_run_created_running_uses_the_cached_result(
    client: Client,
) -> None:
    await cache_result(client, 1)
    flow_run_id = await create_flow_run(client, "RUNNING")

    ids = [
        await create_task_run(client, {"type": "RUNNING", "details": {"cacheKey": "k"}}),
        await create_task_run(client, {"type": "RUNNING", "details": {"cacheKey": "k"}}, flowRunId=flow_run_id),
    ]

    assert [await read_state_names(client, id) for id in ids] == [["Cached"], ["Running"]]


async def test_a_running_run_that_gets_a_result_ends_and_frees_its_slots(server: RunningServer) -> None:
    client = server.client
    await cache_result(client, 1)
    await client.execute("SetConcurrencyLimit", tag="x", limit=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])
    server.clock.advance(5)

    result = await start(client, id)

    assert (result["status"], result["state"]["name"]) == ("REJECT", "Cached")
    assert (result["taskRun"]["endTime"], result["taskRun"]["totalRunTimeSeconds"]) == (
        "2030-01-01T12:00:05.000000Z",
        5.0,
    )
    assert await read_slot_holders(client, "x") == []


async def test_a_result_is_used_only_by_later_changes_of_the_same_request(client: Client) -> None:
    before, producer, after = [await create_task_run(client, "RUNNING") for _ in range(3)]
    types = [(before, "RUNNING"), (producer, "COMPLETED"), (after, "RUNNING")]

    rows = (
        await client.execute(
            "SetTaskRunStates",
            inputs=[{"taskRunId": id, "state": {"type": type, "details": {"cacheKey": "k"}}} for id, type in types],
        )
    )["results"]

    assert [(row["result"]["status"], row["result"]["state"]["name"]) for row in rows] == [
        ("ACCEPT", "Rerunning"),
        ("ACCEPT", "Completed"),
        ("REJECT", "Cached"),
    ]


async def test_a_result_is_used_by_runs_created_later_in_the_request(client: Client) -> None:
    states = [{"type": type, "details": {"cacheKey": "k"}} for type in ("COMPLETED", "RUNNING")]

    payloads = (await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "state": state} for state in states]))[
        "results"
    ]

    assert [payload["taskRun"]["stateType"] for payload in payloads] == ["COMPLETED", "COMPLETED"]


async def test_repeating_a_transition_returns_the_same_copy(client: Client) -> None:
    await cache_result(client, 1)
    id = await create_task_run(client, "PENDING")
    details = {"cacheKey": "k", "transitionId": TRANSITION_ID}

    first, second = [await set_task_run_state(client, id, "RUNNING", details=details) for _ in range(2)]

    assert (first["stateCreated"], second["stateCreated"]) == (True, False)
    assert second["state"] == first["state"]
    assert await read_state_names(client, id) == ["Pending", "Cached"]
