"""A failed flow run is retried as often as its policy allows."""

from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.retry_failed_flow_runs import retry_failed_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, set_flow_run_state
from tests.builders.transitions import flow_run, in_seconds, propose, transition
from tests.client import Client
from tests.serving import RunningServer

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


@pytest.mark.parametrize(("delay", "seconds"), [(None, 0), (0.0, 0), (2.5, 2.5), (-5.0, -5)])
@pytest.mark.parametrize(("run_count", "retries"), [(1, 1), (2, 2), (1, 5)])
def test_a_flow_run_with_retries_left_is_rescheduled_with_pauses_cleared(
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
def test_a_flow_run_without_retries_left_fails(run_count: int, retries: int | None) -> None:
    decision = decide([retry_failed_flow_runs], transition(running(run_count, retries, 10), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


def test_a_flow_run_is_retried_even_if_its_failure_is_unretriable() -> None:
    decision = decide([retry_failed_flow_runs], transition(running(1, 1), propose(StateType.FAILED, retriable=False)))

    assert decision.status is OrchestrationStatus.REJECT


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.FAILED])
def test_no_other_state_is_retried(entering: StateType) -> None:
    decision = decide([retry_failed_flow_runs], transition(running(1, 1), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.RUNNING)])
def test_a_flow_run_that_is_not_running_is_not_retried(leaving: StateType | None) -> None:
    decision = decide([retry_failed_flow_runs], transition(flow_run(leaving, run_count=1, retries=3), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


async def test_a_client_sees_retries_until_they_are_exhausted(server: RunningServer) -> None:
    client = server.client
    id = await create_flow_run(client, "RUNNING", retryPolicy={"retries": 1, "retryDelaySeconds": 10})

    first = await set_flow_run_state(client, id, "FAILED")
    due = (await client.execute("GetFlowRun", id=id))["nextScheduledStartTime"]
    early = await set_flow_run_state(client, id, "RUNNING")
    server.clock.advance(10)
    await set_flow_run_state(client, id, "RUNNING")
    second = await set_flow_run_state(client, id, "FAILED")

    assert (first["status"], first["stateCreated"], first["state"]["name"]) == ("REJECT", True, "AwaitingRetry")
    assert due == "2030-01-01T12:00:10.000000Z"
    assert (early["status"], early["delaySeconds"]) == ("WAIT", 10.0)
    assert (second["status"], second["state"]["name"]) == ("ACCEPT", "Failed")
    run = await client.execute("GetFlowRun", id=id)
    assert run["runCount"] == 2
    assert [state["name"] for state in run["states"]] == ["Running", "AwaitingRetry", "Running", "Failed"]


async def test_a_retried_flow_run_may_reuse_its_pause_keys(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING", retryPolicy={"retries": 1})
    pause = {"type": "PAUSED", "details": {"pauseKey": "a"}}
    await client.execute("SetFlowRunState", id=id, state=pause)
    for type in ("RUNNING", "FAILED", "RUNNING"):
        await set_flow_run_state(client, id, type)

    result = await client.execute("SetFlowRunState", id=id, state=pause)

    assert (result["status"], result["flowRun"]["runCount"]) == ("ACCEPT", 2)


async def test_a_flow_run_that_is_forced_to_fail_is_not_retried(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING", retryPolicy={"retries": 1})

    result = await set_flow_run_state(client, id, "FAILED", force=True)

    assert (result["status"], result["state"]["name"]) == ("ACCEPT", "Failed")


async def test_a_flow_run_without_retries_fails(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")

    result = await set_flow_run_state(client, id, "FAILED")

    assert (result["status"], result["state"]["name"]) == ("ACCEPT", "Failed")
