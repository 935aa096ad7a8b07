"""A flow run that has not started is cancelled without passing through CANCELLING."""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.cancel_scheduled_flow_runs_immediately import (
    cancel_scheduled_flow_runs_immediately,
)
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run
from tests.builders.ids import TRANSITION_ID
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client


def test_a_scheduled_flow_run_becomes_cancelled_with_the_callers_message() -> None:
    proposed = propose(StateType.CANCELLING, name="Mine", message="Not today", data="1")

    decision = decide([cancel_scheduled_flow_runs_immediately], transition(flow_run(StateType.SCHEDULED), proposed))

    assert decision == Decision(
        OrchestrationStatus.REJECT,
        propose(StateType.CANCELLED, message="Not today", data="1"),
        "The flow run has not started and is cancelled immediately.",
    )


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.SCHEDULED)])
def test_a_flow_run_that_may_have_started_becomes_cancelling(leaving: StateType | None) -> None:
    decision = decide([cancel_scheduled_flow_runs_immediately], transition(flow_run(leaving), StateType.CANCELLING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.CANCELLING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.CANCELLING])
def test_a_scheduled_flow_run_may_enter_any_other_state(entering: StateType) -> None:
    decision = decide([cancel_scheduled_flow_runs_immediately], transition(flow_run(StateType.SCHEDULED), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize(
    ("state", "status", "type"), [("SCHEDULED", "REJECT", "CANCELLED"), ("RUNNING", "ACCEPT", "CANCELLING")]
)
async def test_a_client_sees_cancelled_if_scheduled_and_cancelling_if_running(
    client: Client, state: str, status: str, type: str
) -> None:
    id = await create_flow_run(client, state)

    result = await client.execute("SetFlowRunState", id=id, state={"type": "CANCELLING"})

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == (status, True, type)
    run = await client.execute("GetFlowRun", id=id)
    assert (run["stateType"], run["nextScheduledStartTime"], len(run["states"])) == (type, None, 2)


async def test_repeating_a_transition_returns_the_state_that_it_created(client: Client) -> None:
    id = await create_flow_run(client, "SCHEDULED")
    state = {"type": "CANCELLING", "details": {"transitionId": TRANSITION_ID}}

    first, second = [await client.execute("SetFlowRunState", id=id, state=state) for _ in range(2)]

    assert (first["stateCreated"], second["stateCreated"], second["state"]) == (True, False, first["state"])
    assert len((await client.execute("GetFlowRun", id=id))["states"]) == 2
