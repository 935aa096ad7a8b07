"""How a flow run leaves PAUSED."""

from typing import Any

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.resume_flow_runs import resume_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, set_flow_run_state
from tests.builders.transitions import NOW, flow_run, in_seconds, propose, transition
from tests.client import Client
from tests.serving import RunningServer

FORBIDDEN_WHILE_PAUSED = [StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
ALLOWED_AFTER_PAUSE = [each for each in StateType if each not in FORBIDDEN_WHILE_PAUSED]


def paused(deployment_id: str | None = None, **details: Any) -> Any:
    return flow_run(StateType.PAUSED, details=StateDetails(**details), deployment_id=deployment_id)


def resumed(entering: StateType) -> Decision:
    return Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=Effects(resuming=True))


@pytest.mark.parametrize("entering", ALLOWED_AFTER_PAUSE)
@pytest.mark.parametrize("timeout", [None, NOW, in_seconds(60)])
def test_a_paused_flow_run_may_resume_or_end_until_its_timeout(entering: StateType, timeout: str | None) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout_at=timeout), entering))

    assert decision == resumed(entering)


@pytest.mark.parametrize("entering", ALLOWED_AFTER_PAUSE)
def test_a_flow_run_past_its_pause_timeout_fails_on_any_proposal(entering: StateType) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout_at=in_seconds(-0.000001)), entering))

    message = f"The pause timed out at {in_seconds(-0.000001)}."
    assert decision == Decision(OrchestrationStatus.REJECT, propose(StateType.FAILED, message=message), message)


@pytest.mark.parametrize("entering", FORBIDDEN_WHILE_PAUSED)
@pytest.mark.parametrize("timeout", [None, in_seconds(-60)])
def test_a_paused_flow_run_cannot_become_pending_paused_or_cancelling(entering: StateType, timeout: str | None) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout_at=timeout), entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is PAUSED and cannot become {entering.value}."
    )


@pytest.mark.parametrize("entering", ALLOWED_AFTER_PAUSE)
def test_a_pause_with_reschedule_resumes_only_with_a_deployment(entering: StateType) -> None:
    deployed, other = [
        decide([resume_flow_runs], transition(paused(deployment_id, pause_reschedule=True), entering))
        for deployment_id in ("the deployment", None)
    ]

    assert deployed == resumed(entering)
    assert other == Decision(
        OrchestrationStatus.REJECT, None, "The flow run has no deployment that could start it again after the pause."
    )


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.PAUSED)])
def test_a_flow_run_that_is_not_paused_is_not_affected(leaving: StateType | None, entering: StateType) -> None:
    details = StateDetails(pause_timeout_at=in_seconds(-60), pause_reschedule=True)

    decision = decide([resume_flow_runs], transition(flow_run(leaving, details=details), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


async def create_paused_flow_run(client: Client, **details: Any) -> str:
    id = await create_flow_run(client, "RUNNING")
    await set_flow_run_state(client, id, "PAUSED", details=details)
    return id


async def test_resuming_a_flow_run_keeps_its_run_count(client: Client) -> None:
    id = await create_paused_flow_run(client)

    result = await set_flow_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["flowRun"]["runCount"]) == ("ACCEPT", True, 1)
    run = await client.execute("GetFlowRun", id=id)
    assert run["resuming"] is False
    again = await set_flow_run_state(client, id, "RUNNING")
    assert again["flowRun"]["runCount"] == 2


async def test_scheduling_the_resumption_keeps_the_run_count(client: Client) -> None:
    id = await create_paused_flow_run(client)

    await set_flow_run_state(client, id, "SCHEDULED")
    scheduled = (await client.execute("GetFlowRun", id=id))["resuming"]
    result = await set_flow_run_state(client, id, "RUNNING")

    assert (scheduled, result["flowRun"]["runCount"]) == (True, 1)


async def test_a_client_that_resumes_after_the_timeout_finds_the_run_failed(server: RunningServer) -> None:
    client = server.client
    id = await create_paused_flow_run(client, pauseTimeoutAt=server.clock.in_seconds(-0.000001))

    result = await set_flow_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("REJECT", True, "FAILED")
    run = await client.execute("GetFlowRun", id=id)
    assert (run["stateType"], run["runCount"], run["resuming"]) == ("FAILED", 1, False)


async def test_a_client_may_resume_until_the_timeout(server: RunningServer) -> None:
    id = await create_paused_flow_run(server.client, pauseTimeoutAt=server.clock.in_seconds(60))
    server.clock.advance(60)

    result = await set_flow_run_state(server.client, id, "RUNNING")

    assert (result["status"], result["state"]["type"]) == ("ACCEPT", "RUNNING")


async def test_a_client_cannot_claim_a_paused_flow_run(client: Client) -> None:
    id = await create_paused_flow_run(client)
    before = await client.execute("GetFlowRun", id=id)

    result = await set_flow_run_state(client, id, "PENDING")

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert await client.execute("GetFlowRun", id=id) == before
