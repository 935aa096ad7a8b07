"""How a flow run leaves a pause."""

from typing import Any

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.resume_flow_runs import resume_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import NOW, flow_run, in_seconds, propose, transition
from tests.client import Client
from tests.serving import Serving

NOT_AFTER_A_PAUSE = [StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
AFTER_A_PAUSE = [each for each in StateType if each not in NOT_AFTER_A_PAUSE]


def paused(deployment_id: str | None = None, **details: Any) -> Any:
    return flow_run(StateType.PAUSED, details=StateDetails(**details), deployment_id=deployment_id)


def resumed(entering: StateType) -> Decision:
    return Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=Effects(resuming=True))


# --- the rule ---


@pytest.mark.parametrize("entering", AFTER_A_PAUSE)
@pytest.mark.parametrize("timeout", [None, NOW, in_seconds(60)])
def test_a_paused_flow_run_may_go_on_or_end_until_its_pause_runs_out(entering: StateType, timeout: str | None) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout=timeout), entering))

    assert decision == resumed(entering)


@pytest.mark.parametrize("entering", AFTER_A_PAUSE)
def test_one_whose_pause_has_run_out_has_failed_whatever_is_proposed(entering: StateType) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout=in_seconds(-0.000001)), entering))

    failure = propose(StateType.FAILED, message="The pause was not ended in time.")
    assert decision == Decision(OrchestrationStatus.REJECT, failure, "The pause has run out.")


@pytest.mark.parametrize("entering", NOT_AFTER_A_PAUSE)
@pytest.mark.parametrize("timeout", [None, in_seconds(-60)])
def test_one_that_is_paused_can_not_be_claimed_or_paused_or_be_on_its_way_out(
    entering: StateType, timeout: str | None
) -> None:
    decision = decide([resume_flow_runs], transition(paused(pause_timeout=timeout), entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is paused: it can not become {entering.value}."
    )


@pytest.mark.parametrize("entering", AFTER_A_PAUSE)
def test_one_that_has_left_its_process_may_go_on_only_from_a_deployment(entering: StateType) -> None:
    deployed, other = [
        decide([resume_flow_runs], transition(paused(deployment_id, pause_reschedule=True), entering))
        for deployment_id in ("the deployment", None)
    ]

    assert deployed == resumed(entering)
    assert other == Decision(
        OrchestrationStatus.REJECT, None, "The flow run has no deployment: nobody would start it again."
    )


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.PAUSED)])
def test_one_that_is_not_paused_is_none_of_its_business(leaving: StateType | None, entering: StateType) -> None:
    details = StateDetails(pause_timeout=in_seconds(-60), pause_reschedule=True)

    decision = decide([resume_flow_runs], transition(flow_run(leaving, details=details), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


# --- as clients meet it ---


async def paused_run(client: Client, **details: Any) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "state": {"type": "RUNNING"}})
    id = payload["flowRun"]["id"]
    await client.ask("SetFlowRunState", id=id, state={"type": "PAUSED", "details": details})
    return id


async def ask(client: Client, id: str, type: str) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": type})


async def test_a_client_that_resumes_a_flow_run_goes_on_with_the_same_run(client: Client) -> None:
    id = await paused_run(client)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["flowRun"]["runCount"]) == ("ACCEPT", True, 1)
    run = await client.ask("GetFlowRun", id=id)
    assert run["empiricalPolicy"]["resuming"] is False
    again = await ask(client, id, "RUNNING")
    assert again["flowRun"]["runCount"] == 2


async def test_a_client_that_schedules_the_resumption_goes_on_with_the_same_run_too(client: Client) -> None:
    id = await paused_run(client)

    await ask(client, id, "SCHEDULED")
    scheduled = (await client.ask("GetFlowRun", id=id))["empiricalPolicy"]["resuming"]
    answer = await ask(client, id, "RUNNING")

    assert (scheduled, answer["flowRun"]["runCount"]) == (True, 1)


async def test_a_client_that_comes_too_late_finds_the_flow_run_failed(server: Serving) -> None:
    client = server.client
    id = await paused_run(client, pauseTimeout=server.clock.in_seconds(60))
    server.clock.advance(60.000001)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["state"]["type"]) == ("REJECT", True, "FAILED")
    run = await client.ask("GetFlowRun", id=id)
    assert (run["stateType"], run["runCount"], run["empiricalPolicy"]["resuming"]) == ("FAILED", 1, False)


async def test_a_client_that_comes_in_time_does_not(server: Serving) -> None:
    id = await paused_run(server.client, pauseTimeout=server.clock.in_seconds(60))
    server.clock.advance(60)

    answer = await ask(server.client, id, "RUNNING")

    assert (answer["status"], answer["state"]["type"]) == ("ACCEPT", "RUNNING")


async def test_a_client_can_not_claim_a_paused_flow_run(client: Client) -> None:
    id = await paused_run(client)
    before = await client.ask("GetFlowRun", id=id)

    answer = await ask(client, id, "PENDING")

    assert (answer["status"], answer["created"]) == ("REJECT", False)
    assert await client.ask("GetFlowRun", id=id) == before
