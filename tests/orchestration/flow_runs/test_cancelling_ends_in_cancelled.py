"""What was called off stays called off."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.cancelling_ends_in_cancelled import cancelling_ends_in_cancelled
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import create_flow_run

CALLED_OFF = [StateType.CANCELLING, StateType.CANCELLED]

# --- the rule ---


@pytest.mark.parametrize("leaving", CALLED_OFF)
def test_a_flow_run_that_was_called_off_may_become_cancelled(leaving: StateType) -> None:
    decision = decide([cancelling_ends_in_cancelled], transition(flow_run(leaving), StateType.CANCELLED))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.CANCELLED))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.CANCELLED])
@pytest.mark.parametrize("leaving", CALLED_OFF)
def test_and_nothing_else(leaving: StateType, entering: StateType) -> None:
    decision = decide([cancelling_ends_in_cancelled], transition(flow_run(leaving), entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is {leaving.value}: it can only become CANCELLED."
    )


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in CALLED_OFF)])
def test_one_that_was_not_called_off_may_become_anything(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([cancelling_ends_in_cancelled], transition(flow_run(leaving), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_task_runs_and_force_are_not_bound_by_it() -> None:
    bound = [policy.IN_FLOW_RUN, policy.IN_BACKGROUND, policy.FORCED, policy.FORCED_FLOW_RUN]

    assert not any(cancelling_ends_in_cancelled in each for each in bound)


# --- as clients meet it ---


async def test_a_client_can_not_run_what_is_being_called_off_and_may_end_it(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    await client.ask("SetFlowRunState", id=id, state={"type": "CANCELLING"})
    before = await client.ask("GetFlowRun", id=id)

    refused = await client.ask("SetFlowRunState", id=id, state={"type": "RUNNING"})
    unchanged = await client.ask("GetFlowRun", id=id)
    accepted = await client.ask("SetFlowRunState", id=id, state={"type": "CANCELLED"})

    assert (refused["status"], refused["created"], refused["state"]["type"]) == ("REJECT", False, "CANCELLING")
    assert unchanged == before
    assert (accepted["status"], accepted["created"]) == ("ACCEPT", True)


async def test_force_brings_back_what_was_called_off(client: Client) -> None:
    id = await create_flow_run(client, "CANCELLED")

    answer = await client.ask("SetFlowRunState", id=id, state={"type": "RUNNING"}, force=True)

    assert (answer["status"], answer["flowRun"]["stateType"]) == ("ACCEPT", "RUNNING")
