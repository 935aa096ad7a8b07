"""A CANCELLING or CANCELLED flow run can only become CANCELLED."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.restrict_cancelling_to_cancelled import restrict_cancelling_to_cancelled
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client

CANCELLATION_STATES = [StateType.CANCELLING, StateType.CANCELLED]


@pytest.mark.parametrize("leaving", CANCELLATION_STATES)
def test_a_cancelling_or_cancelled_flow_run_may_become_cancelled(leaving: StateType) -> None:
    decision = decide([restrict_cancelling_to_cancelled], transition(flow_run(leaving), StateType.CANCELLED))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.CANCELLED))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.CANCELLED])
@pytest.mark.parametrize("leaving", CANCELLATION_STATES)
def test_a_cancelling_or_cancelled_flow_run_may_enter_no_other_state(leaving: StateType, entering: StateType) -> None:
    decision = decide([restrict_cancelling_to_cancelled], transition(flow_run(leaving), entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is {leaving.value} and can only become CANCELLED."
    )


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in CANCELLATION_STATES)])
def test_any_other_flow_run_may_enter_any_state(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([restrict_cancelling_to_cancelled], transition(flow_run(leaving), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_the_rule_does_not_govern_task_runs_or_forced_transitions() -> None:
    policies = [policy.IN_FLOW_RUN, policy.IN_BACKGROUND, policy.FORCED, policy.FORCED_FLOW_RUN]

    assert not any(restrict_cancelling_to_cancelled in each for each in policies)


async def test_a_client_cannot_run_a_cancelling_flow_run_but_may_cancel_it(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    await client.execute("SetFlowRunState", id=id, state={"type": "CANCELLING"})
    before = await client.execute("GetFlowRun", id=id)

    refused = await client.execute("SetFlowRunState", id=id, state={"type": "RUNNING"})
    unchanged = await client.execute("GetFlowRun", id=id)
    accepted = await client.execute("SetFlowRunState", id=id, state={"type": "CANCELLED"})

    assert (refused["status"], refused["stateCreated"], refused["state"]["type"]) == ("REJECT", False, "CANCELLING")
    assert unchanged == before
    assert (accepted["status"], accepted["stateCreated"]) == ("ACCEPT", True)


async def test_a_cancelled_flow_run_can_be_forced_to_run(client: Client) -> None:
    id = await create_flow_run(client, "CANCELLED")

    result = await client.execute("SetFlowRunState", id=id, state={"type": "RUNNING"}, force=True)

    assert (result["status"], result["flowRun"]["stateType"]) == ("ACCEPT", "RUNNING")
