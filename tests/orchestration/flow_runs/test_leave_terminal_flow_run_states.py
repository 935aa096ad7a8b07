"""When a flow run may leave a terminal state."""

from typing import Any

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.leave_terminal_flow_run_states import leave_terminal_flow_run_states
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, set_flow_run_state
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client

TERMINAL_STATES = sorted(TERMINAL)
RESTARTED_STATES = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
FORBIDDEN_STATES = [StateType.CRASHED, StateType.PAUSED, StateType.CANCELLING]
PERSISTED = ['{"type":"reference"}', '{"type":"literal"}', '{"a":1}', '"text"', "7", "[0]"]
UNPERSISTED = [None, "{}", '""', "0", "false", "[]", '{"type":"unpersisted"}']

RESTART_EFFECTS = Effects(pause_keys=(), resuming=False)


def terminal_flow_run(leaving: StateType, *, has_deployment: bool = True, data: str | None = None) -> Any:
    return flow_run(
        leaving,
        data=data,
        deployment_id="the deployment" if has_deployment else None,
        pause_keys_json='["a"]',
        resuming=True,
        run_count=3,
    )


@pytest.mark.parametrize("entering", RESTARTED_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_flow_run_may_restart_with_pauses_cleared_and_count_kept(
    leaving: StateType, entering: StateType
) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(terminal_flow_run(leaving), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=RESTART_EFFECTS)


@pytest.mark.parametrize("entering", [StateType.PENDING, StateType.RUNNING])
def test_a_flow_run_without_a_deployment_may_restart_at_once(entering: StateType) -> None:
    decision = decide(
        [leave_terminal_flow_run_states],
        transition(terminal_flow_run(StateType.FAILED, has_deployment=False), entering),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=RESTART_EFFECTS)


@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_flow_run_without_a_deployment_cannot_be_rescheduled(leaving: StateType) -> None:
    decision = decide(
        [leave_terminal_flow_run_states],
        transition(terminal_flow_run(leaving, has_deployment=False), StateType.SCHEDULED),
    )

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, "The flow run has no deployment that could start it again."
    )


@pytest.mark.parametrize("entering", [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED])
@pytest.mark.parametrize("data", [None, PERSISTED[0]])
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_flow_run_may_change_outcome_despite_a_persisted_result(
    leaving: StateType, data: str | None, entering: StateType
) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(terminal_flow_run(leaving, data=data), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("entering", FORBIDDEN_STATES)
@pytest.mark.parametrize("data", [None, PERSISTED[0]])
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_flow_run_cannot_become_crashed_paused_or_cancelling(
    leaving: StateType, data: str | None, entering: StateType
) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(terminal_flow_run(leaving, data=data), entering))

    assert decision == Decision(
        OrchestrationStatus.ABORT,
        None,
        f"The flow run is {leaving.value} and cannot become {entering.value}.",
    )


@pytest.mark.parametrize("entering", RESTARTED_STATES)
@pytest.mark.parametrize("has_deployment", [True, False])
@pytest.mark.parametrize("data", PERSISTED)
def test_a_completed_flow_run_with_a_persisted_result_does_not_restart(
    data: str, has_deployment: bool, entering: StateType
) -> None:
    completed = terminal_flow_run(StateType.COMPLETED, data=data, has_deployment=has_deployment)

    decision = decide([leave_terminal_flow_run_states], transition(completed, entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, "The flow run is COMPLETED with a persisted result and cannot start again."
    )


@pytest.mark.parametrize("data", UNPERSISTED)
def test_a_completed_flow_run_without_a_persisted_result_may_run_again(data: str | None) -> None:
    decision = decide(
        [leave_terminal_flow_run_states],
        transition(terminal_flow_run(StateType.COMPLETED, data=data), StateType.RUNNING),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=RESTART_EFFECTS)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in TERMINAL)])
def test_a_nonterminal_flow_run_is_not_affected(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(flow_run(leaving, data=PERSISTED[0]), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


async def test_a_client_may_rerun_a_failed_flow_run_and_its_count_increases(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    await set_flow_run_state(client, id, "PAUSED")
    await set_flow_run_state(client, id, "RUNNING")
    await set_flow_run_state(client, id, "FAILED")
    paused_once = (await client.execute("GetFlowRun", id=id))["pauseKeys"]

    result = await set_flow_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["flowRun"]["runCount"]) == ("ACCEPT", True, 2)
    run = await client.execute("GetFlowRun", id=id)
    assert (len(paused_once), run["pauseKeys"], run["endTime"]) == (1, [], None)


async def test_a_client_cannot_rerun_a_flow_run_with_a_persisted_result(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    await set_flow_run_state(client, id, "COMPLETED", data={"type": "reference"})
    before = await client.execute("GetFlowRun", id=id)

    result = await set_flow_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["id"]) == ("REJECT", False, before["stateId"])
    assert await client.execute("GetFlowRun", id=id) == before
