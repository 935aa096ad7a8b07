"""A COMPLETED state with a cache key is cached for other runs."""

from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.insert_into_cache import insert_into_cache
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, set_task_run_state
from tests.builders.transitions import propose, task_run, transition
from tests.client import Client
from tests.serving import RunningServer


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_completed_state_with_a_key_is_cached_from_any_state(leaving: StateType | None) -> None:
    completed = propose(StateType.COMPLETED, name="Mine", data="1", cache_key="k")

    decision = decide([insert_into_cache], transition(task_run(leaving), completed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, completed, effects=Effects(caches_result=True))


@pytest.mark.parametrize("key", [None, ""])
def test_a_completed_state_without_a_key_is_not_cached(key: str | None) -> None:
    completed = propose(StateType.COMPLETED, data="1", cache_key=key)

    decision = decide([insert_into_cache], transition(task_run(StateType.RUNNING, cache_key="of the run"), completed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, completed)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.COMPLETED])
def test_no_other_state_is_cached(entering: StateType) -> None:
    proposed = propose(entering, data="1", cache_key="k")

    decision = decide([insert_into_cache], transition(task_run(StateType.RUNNING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_the_forced_policy_caches_nothing() -> None:
    assert insert_into_cache not in policy.FORCED


CACHE_KEY_DETAILS: dict[str, Any] = {"cacheKey": "k"}


async def is_cached(client: Client) -> bool:
    """Return whether a new run with the cache key `k` gets a cached result."""
    result = await set_task_run_state(
        client, await create_task_run(client, "PENDING"), "RUNNING", details=CACHE_KEY_DETAILS
    )
    return result["state"]["name"] == "Cached"


@pytest.mark.parametrize(("type", "cached"), [("COMPLETED", True), ("FAILED", False), ("CRASHED", False)])
async def test_a_result_is_cached_for_other_runs_but_a_failure_is_not(client: Client, type: str, cached: bool) -> None:
    await set_task_run_state(client, await create_task_run(client, "RUNNING"), type, data=1, details=CACHE_KEY_DETAILS)

    assert await is_cached(client) is cached


async def test_a_result_that_has_already_expired_is_not_cached(server: RunningServer) -> None:
    expired = {**CACHE_KEY_DETAILS, "cacheExpiresAt": server.clock.in_seconds(0)}

    result = await set_task_run_state(
        server.client, await create_task_run(server.client, "RUNNING"), "COMPLETED", data=1, details=expired
    )

    assert result["status"] == "ACCEPT"
    assert await is_cached(server.client) is False


async def test_a_result_without_data_is_cached(client: Client) -> None:
    await set_task_run_state(client, await create_task_run(client, "RUNNING"), "COMPLETED", details=CACHE_KEY_DETAILS)

    assert await is_cached(client) is True


@pytest.mark.parametrize("in_flow_run", [True, False])
async def test_a_forced_state_is_not_cached(client: Client, in_flow_run: bool) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create_task_run(client, "RUNNING", **fields)

    await set_task_run_state(client, id, "COMPLETED", data=1, details=CACHE_KEY_DETAILS, force=True)

    assert await is_cached(client) is False


async def test_the_initial_state_of_a_background_run_is_cached(client: Client) -> None:
    await create_task_run(client, {"type": "COMPLETED", "details": CACHE_KEY_DETAILS})

    assert await is_cached(client) is True


async def test_the_initial_state_in_a_flow_run_is_not_cached(client: Client) -> None:
    await create_task_run(
        client, {"type": "COMPLETED", "details": CACHE_KEY_DETAILS}, flowRunId=await create_flow_run(client, "RUNNING")
    )

    assert await is_cached(client) is False


async def test_a_copy_of_a_cached_result_is_not_cached_again(client: Client) -> None:
    original = await create_task_run(client, {"type": "COMPLETED", "details": CACHE_KEY_DETAILS})
    assert await is_cached(client) is True

    await client.execute("DeleteTaskRun", id=original)

    assert await is_cached(client) is False


async def test_a_rejected_completed_state_is_not_cached(client: Client) -> None:
    id = await create_task_run(client, "RUNNING")
    await set_task_run_state(client, id, "COMPLETED", data={"type": "literal"})

    result = await set_task_run_state(client, id, "COMPLETED", data=2, details=CACHE_KEY_DETAILS)

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert await is_cached(client) is False
