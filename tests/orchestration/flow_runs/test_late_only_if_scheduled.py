"""Only a SCHEDULED flow run can become Late."""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.late_only_if_scheduled import late_only_if_scheduled
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client

LATE = propose(StateType.SCHEDULED, name="Late")


def test_a_scheduled_flow_run_may_become_late() -> None:
    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.SCHEDULED), LATE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, LATE)


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.SCHEDULED)])
def test_any_other_flow_run_cannot_become_late(leaving: StateType | None) -> None:
    decision = decide([late_only_if_scheduled], transition(flow_run(leaving), LATE))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "Only a SCHEDULED flow run can be marked as Late.")


@pytest.mark.parametrize("name", ["Scheduled", "late", "LATE", "Late ", ""])
def test_any_flow_run_may_be_scheduled_under_another_name(name: str) -> None:
    proposed = propose(StateType.SCHEDULED, name=name)

    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.PENDING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.SCHEDULED])
def test_a_state_of_another_type_may_be_named_late(entering: StateType) -> None:
    proposed = propose(entering, name="Late")

    decision = decide([late_only_if_scheduled], transition(flow_run(StateType.PENDING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize(
    ("state", "status", "names"),
    [("SCHEDULED", "ACCEPT", ["Scheduled", "Late"]), ("PENDING", "REJECT", ["Pending"])],
)
async def test_a_client_may_mark_only_scheduled_flow_runs_as_late(
    client: Client, state: str, status: str, names: list[str]
) -> None:
    id = await create_flow_run(client, state)

    result = await client.execute("SetFlowRunState", id=id, state={"type": "SCHEDULED", "name": "Late"})

    assert (result["status"], result["stateCreated"]) == (status, status == "ACCEPT")
    assert [each["name"] for each in (await client.execute("GetFlowRun", id=id))["states"]] == names
