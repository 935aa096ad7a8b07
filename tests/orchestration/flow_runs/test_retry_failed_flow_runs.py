"""A failed flow run is tried again, as often as its policy says."""

from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.retry_failed_flow_runs import retry_failed_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import flow_run, in_seconds, propose, transition
from tests.client import Client
from tests.serving import Serving

FAILURE = propose(StateType.FAILED, name="OutOfDisk", message="No space left", data="[1]", cache_key="k")


def running(run_count: int, retries: int | None, delay: float | None = None) -> Any:
    return flow_run(
        StateType.RUNNING,
        run_count=run_count,
        retries=retries,
        retry_delay_seconds=delay,
        pause_keys_json='["a"]',
        resuming=True,
    )


# --- the rule ---


@pytest.mark.parametrize(("delay", "seconds"), [(None, 0), (0.0, 0), (2.5, 2.5), (-5.0, -5)])
@pytest.mark.parametrize(("run_count", "retries"), [(1, 1), (2, 2), (1, 5)])
def test_a_flow_run_that_has_retries_left_is_scheduled_again_with_its_pauses_forgotten(
    run_count: int, retries: int, delay: float | None, seconds: float
) -> None:
    decision = decide([retry_failed_flow_runs], transition(running(run_count, retries, delay), FAILURE))

    again = propose(
        StateType.SCHEDULED,
        name="AwaitingRetry",
        message="No space left",
        data="[1]",
        scheduled_time=in_seconds(seconds),
    )
    assert decision == Decision(
        OrchestrationStatus.REJECT,
        again,
        "The flow run has retries left.",
        effects=Effects(pause_keys=(), resuming=False),
    )


@pytest.mark.parametrize(("run_count", "retries"), [(1, None), (1, 0), (1, -1), (2, 1), (3, 2)])
def test_a_flow_run_that_has_none_left_fails(run_count: int, retries: int | None) -> None:
    decision = decide([retry_failed_flow_runs], transition(running(run_count, retries, 10), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


def test_a_flow_run_is_retried_even_where_its_failure_forbids_it_to_task_runs() -> None:
    decision = decide([retry_failed_flow_runs], transition(running(1, 1), propose(StateType.FAILED, retriable=False)))

    assert decision.status is OrchestrationStatus.REJECT


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.FAILED])
def test_no_other_end_is_retried(entering: StateType) -> None:
    decision = decide([retry_failed_flow_runs], transition(running(1, 1), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.RUNNING)])
def test_a_failure_of_a_flow_run_that_is_not_running_is_not_retried(leaving: StateType | None) -> None:
    decision = decide([retry_failed_flow_runs], transition(flow_run(leaving, run_count=1, retries=3), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


# --- as clients meet it ---


async def create(client: Client, **policy: Any) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask(
        "CreateFlowRun", input={"flowId": flow["id"], "state": {"type": "RUNNING"}, "empiricalPolicy": policy}
    )
    return payload["flowRun"]["id"]


async def ask(client: Client, id: str, type: str, **arguments: Any) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": type}, **arguments)


async def test_a_client_sees_the_flow_run_scheduled_again_until_its_retries_are_used_up(server: Serving) -> None:
    client = server.client
    id = await create(client, retries=1, retryDelaySeconds=10)

    first = await ask(client, id, "FAILED")
    due = (await client.ask("GetFlowRun", id=id))["nextScheduledStartTime"]
    early = await ask(client, id, "RUNNING")
    server.clock.advance(10)
    await ask(client, id, "RUNNING")
    second = await ask(client, id, "FAILED")

    assert (first["status"], first["created"], first["state"]["name"]) == ("REJECT", True, "AwaitingRetry")
    assert due == "2030-01-01T12:00:10.000000Z"
    assert (early["status"], early["delaySeconds"]) == ("WAIT", 10.0)
    assert (second["status"], second["state"]["name"]) == ("ACCEPT", "Failed")
    run = await client.ask("GetFlowRun", id=id)
    assert run["runCount"] == 2
    assert [state["name"] for state in run["states"]] == ["Running", "AwaitingRetry", "Running", "Failed"]


async def test_a_retried_flow_run_may_have_its_pauses_again(client: Client) -> None:
    id = await create(client, retries=1)
    pause = {"type": "PAUSED", "details": {"pauseKey": "a"}}
    await client.ask("SetFlowRunState", id=id, state=pause)
    for type in ("RUNNING", "FAILED", "RUNNING"):
        await ask(client, id, type)

    answer = await client.ask("SetFlowRunState", id=id, state=pause)

    assert (answer["status"], answer["flowRun"]["runCount"]) == ("ACCEPT", 2)


async def test_a_flow_run_that_is_forced_to_fail_has_failed(client: Client) -> None:
    id = await create(client, retries=1)

    answer = await ask(client, id, "FAILED", force=True)

    assert (answer["status"], answer["state"]["name"]) == ("ACCEPT", "Failed")


async def test_a_flow_run_without_retries_fails(client: Client) -> None:
    id = await create(client)

    answer = await ask(client, id, "FAILED")

    assert (answer["status"], answer["state"]["name"]) == ("ACCEPT", "Failed")
