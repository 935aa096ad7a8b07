"""A result with a cache key is kept for others."""

from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.insert_into_cache import insert_into_cache
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run
from tests.serving import Serving

# --- the rule ---


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_completed_state_with_a_key_is_kept_from_wherever_it_comes(leaving: StateType | None) -> None:
    completed = propose(StateType.COMPLETED, name="Mine", data="1", cache_key="k")

    decision = decide([insert_into_cache], transition(task_run(leaving), completed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, completed, effects=Effects(keeps_result=True))


@pytest.mark.parametrize("key", [None, ""])
def test_a_completed_state_without_a_key_is_not_kept(key: str | None) -> None:
    completed = propose(StateType.COMPLETED, data="1", cache_key=key)

    decision = decide([insert_into_cache], transition(task_run(StateType.RUNNING, cache_key="of the run"), completed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, completed)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.COMPLETED])
def test_no_other_state_is_kept(entering: StateType) -> None:
    proposed = propose(entering, data="1", cache_key="k")

    decision = decide([insert_into_cache], transition(task_run(StateType.RUNNING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_force_keeps_no_result() -> None:
    assert insert_into_cache not in policy.FORCED


# --- as clients meet it ---

WITH_KEY: dict[str, Any] = {"cacheKey": "k"}


async def is_kept(client: Client) -> bool:
    """Whether a fresh run that asks for `k` is given a result."""
    answer = await ask(client, await create(client, "PENDING"), "RUNNING", details=WITH_KEY)
    return answer["state"]["name"] == "Cached"


@pytest.mark.parametrize(("type", "kept"), [("COMPLETED", True), ("FAILED", False), ("CRASHED", False)])
async def test_a_result_is_kept_for_other_runs_and_a_failure_is_not(client: Client, type: str, kept: bool) -> None:
    await ask(client, await create(client, "RUNNING"), type, data=1, details=WITH_KEY)

    assert await is_kept(client) is kept


async def test_a_result_whose_expiration_has_passed_is_kept_for_nobody(server: Serving) -> None:
    expired = {**WITH_KEY, "cacheExpiration": server.clock.in_seconds(0)}

    answer = await ask(server.client, await create(server.client, "RUNNING"), "COMPLETED", data=1, details=expired)

    assert answer["status"] == "ACCEPT"
    assert await is_kept(server.client) is False


async def test_a_result_without_data_is_kept_too(client: Client) -> None:
    await ask(client, await create(client, "RUNNING"), "COMPLETED", details=WITH_KEY)

    assert await is_kept(client) is True


@pytest.mark.parametrize("in_flow_run", [True, False])
async def test_a_state_that_is_forced_is_not_kept(client: Client, in_flow_run: bool) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create(client, "RUNNING", **fields)

    await ask(client, id, "COMPLETED", data=1, details=WITH_KEY, force=True)

    assert await is_kept(client) is False


async def test_the_first_state_of_a_background_run_is_kept(client: Client) -> None:
    await create(client, "COMPLETED", WITH_KEY)

    assert await is_kept(client) is True


async def test_the_first_state_of_a_task_run_of_a_flow_run_is_not_kept(client: Client) -> None:
    await create(client, "COMPLETED", WITH_KEY, flowRunId=await create_flow_run(client, "RUNNING"))

    assert await is_kept(client) is False


async def test_a_copy_of_a_kept_result_is_not_kept_again(client: Client) -> None:
    original = await create(client, "COMPLETED", WITH_KEY)
    assert await is_kept(client) is True

    await client.ask("DeleteTaskRun", id=original)

    assert await is_kept(client) is False


async def test_a_completed_state_that_is_refused_is_not_kept(client: Client) -> None:
    id = await create(client, "RUNNING")
    await ask(client, id, "COMPLETED", data={"type": "literal"})

    answer = await ask(client, id, "COMPLETED", data=2, details=WITH_KEY)

    assert (answer["status"], answer["created"]) == ("REJECT", False)
    assert await is_kept(client) is False
