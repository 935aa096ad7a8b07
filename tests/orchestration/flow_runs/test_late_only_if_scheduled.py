"""Only what is scheduled can be late."""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.late_only_if_scheduled import late_only_if_scheduled
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import create_flow_run

LATE = propose(StateType.SCHEDULED, name="Late")

# --- the rule ---


def test_a_scheduled_flow_run_may_be_late() -> None:
    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.SCHEDULED), LATE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, LATE)


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.SCHEDULED)])
def test_any_other_is_not(leaving: StateType | None) -> None:
    decision = decide([late_only_if_scheduled], transition(flow_run(leaving), LATE))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "The flow run is not scheduled, so it is not late.")


@pytest.mark.parametrize("name", ["Scheduled", "late", "LATE", "Late ", ""])
def test_any_flow_run_may_be_scheduled_under_another_name(name: str) -> None:
    proposed = propose(StateType.SCHEDULED, name=name)

    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.PENDING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.SCHEDULED])
def test_a_state_of_another_type_may_be_called_late(entering: StateType) -> None:
    proposed = propose(entering, name="Late")

    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.PENDING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


# --- as clients meet it ---


@pytest.mark.parametrize(
    ("state", "status", "names"),
    [("SCHEDULED", "ACCEPT", ["Scheduled", "Late"]), ("PENDING", "REJECT", ["Pending"])],
)
async def test_a_client_may_mark_what_is_scheduled_as_late_and_nothing_else(
    client: Client, state: str, status: str, names: list[str]
) -> None:
    id = await create_flow_run(client, state)

    answer = await client.ask("SetFlowRunState", id=id, state={"type": "SCHEDULED", "name": "Late"})

    assert (answer["status"], answer["created"]) == (status, status == "ACCEPT")
    assert [each["name"] for each in (await client.ask("GetFlowRun", id=id))["states"]] == names
