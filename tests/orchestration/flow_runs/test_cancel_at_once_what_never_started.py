"""There is nothing to stop in a flow run that has not started."""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.cancel_at_once_what_never_started import cancel_at_once_what_never_started
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import create_flow_run

TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"

# --- the rule ---


def test_a_scheduled_flow_run_that_is_called_off_is_cancelled_at_once_with_the_caller_s_message() -> None:
    asked = propose(StateType.CANCELLING, name="Mine", message="Not today", data="1")

    decision = decide([cancel_at_once_what_never_started], transition(flow_run(StateType.SCHEDULED), asked))

    assert decision == Decision(
        OrchestrationStatus.REJECT,
        propose(StateType.CANCELLED, message="Not today", data="1"),
        "The flow run has not started: there is nothing to wait for.",
    )


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.SCHEDULED)])
def test_one_that_may_have_started_is_to_stop_first(leaving: StateType | None) -> None:
    decision = decide([cancel_at_once_what_never_started], transition(flow_run(leaving), StateType.CANCELLING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.CANCELLING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.CANCELLING])
def test_a_scheduled_flow_run_may_become_anything_else(entering: StateType) -> None:
    decision = decide([cancel_at_once_what_never_started], transition(flow_run(StateType.SCHEDULED), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


# --- as clients meet it ---


@pytest.mark.parametrize(
    ("state", "status", "type"), [("SCHEDULED", "REJECT", "CANCELLED"), ("RUNNING", "ACCEPT", "CANCELLING")]
)
async def test_a_client_sees_what_never_started_cancelled_and_what_runs_being_called_off(
    client: Client, state: str, status: str, type: str
) -> None:
    id = await create_flow_run(client, state)

    answer = await client.ask("SetFlowRunState", id=id, state={"type": "CANCELLING"})

    assert (answer["status"], answer["created"], answer["state"]["type"]) == (status, True, type)
    run = await client.ask("GetFlowRun", id=id)
    assert (run["stateType"], run["nextScheduledStartTime"], len(run["states"])) == (type, None, 2)


async def test_the_same_transition_again_answers_the_state_that_it_made(client: Client) -> None:
    id = await create_flow_run(client, "SCHEDULED")
    state = {"type": "CANCELLING", "details": {"transitionId": TRANSITION}}

    first, second = [await client.ask("SetFlowRunState", id=id, state=state) for _ in range(2)]

    assert (first["created"], second["created"], second["state"]) == (True, False, first["state"])
    assert len((await client.ask("GetFlowRun", id=id))["states"]) == 2
