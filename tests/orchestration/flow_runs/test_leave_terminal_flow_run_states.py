"""When a flow run that has ended may be taken up again."""

from typing import Any

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.leave_terminal_flow_run_states import leave_terminal_flow_run_states
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client

ENDED = sorted(TERMINAL)
TAKEN_UP = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
IMPOSSIBLE = [StateType.CRASHED, StateType.PAUSED, StateType.CANCELLING]
KEPT = ['{"type":"reference"}', '{"type":"literal"}', '{"a":1}', '"text"', "7", "[0]"]
NOT_KEPT = [None, "{}", '""', "0", "false", "[]", '{"type":"unpersisted"}']

STARTS_OVER = Effects(pause_keys=(), resuming=False)


def ended(leaving: StateType, *, deployed: bool = True, data: str | None = None) -> Any:
    return flow_run(
        leaving,
        data=data,
        deployment_id="the deployment" if deployed else None,
        pause_keys_json='["a"]',
        resuming=True,
        run_count=3,
    )


# --- the rule ---


@pytest.mark.parametrize("entering", TAKEN_UP)
@pytest.mark.parametrize("leaving", ENDED)
def test_a_flow_run_that_has_ended_may_start_over_with_its_pauses_forgotten_and_its_count_kept(
    leaving: StateType, entering: StateType
) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(ended(leaving), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=STARTS_OVER)


@pytest.mark.parametrize("entering", [StateType.PENDING, StateType.RUNNING])
def test_one_without_a_deployment_may_start_over_at_once(entering: StateType) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(ended(StateType.FAILED, deployed=False), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=STARTS_OVER)


@pytest.mark.parametrize("leaving", ENDED)
def test_but_nobody_would_start_it_later(leaving: StateType) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(ended(leaving, deployed=False), StateType.SCHEDULED))

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, "The flow run has no deployment: nobody would start it."
    )


@pytest.mark.parametrize("entering", [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED])
@pytest.mark.parametrize("data", [None, KEPT[0]])
@pytest.mark.parametrize("leaving", ENDED)
def test_a_flow_run_that_has_ended_may_end_otherwise_even_where_a_result_is_kept(
    leaving: StateType, data: str | None, entering: StateType
) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(ended(leaving, data=data), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("entering", IMPOSSIBLE)
@pytest.mark.parametrize("data", [None, KEPT[0]])
@pytest.mark.parametrize("leaving", ENDED)
def test_it_can_not_crash_or_pause_or_be_called_off(leaving: StateType, data: str | None, entering: StateType) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(ended(leaving, data=data), entering))

    assert decision == Decision(
        OrchestrationStatus.ABORT,
        None,
        f"The flow run has ended ({leaving.value}): it can not become {entering.value}.",
    )


@pytest.mark.parametrize("entering", TAKEN_UP)
@pytest.mark.parametrize("deployed", [True, False])
@pytest.mark.parametrize("data", KEPT)
def test_a_completed_flow_run_whose_result_is_kept_is_not_taken_up_again(
    data: str, deployed: bool, entering: StateType
) -> None:
    completed = ended(StateType.COMPLETED, data=data, deployed=deployed)

    decision = decide([leave_terminal_flow_run_states], transition(completed, entering))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "The flow run is COMPLETED and its result is kept.")


@pytest.mark.parametrize("data", NOT_KEPT)
def test_a_completed_flow_run_without_a_result_may_run_again(data: str | None) -> None:
    decision = decide(
        [leave_terminal_flow_run_states], transition(ended(StateType.COMPLETED, data=data), StateType.RUNNING)
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=STARTS_OVER)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in TERMINAL)])
def test_a_flow_run_that_has_not_ended_is_none_of_its_business(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([leave_terminal_flow_run_states], transition(flow_run(leaving, data=KEPT[0]), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


# --- as clients meet it ---


async def create(client: Client) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "state": {"type": "RUNNING"}})
    return payload["flowRun"]["id"]


async def ask(client: Client, id: str, type: str, data: object = None) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": type, "data": data})


async def test_a_client_may_run_a_failed_flow_run_again_and_it_counts_on(client: Client) -> None:
    id = await create(client)
    await ask(client, id, "PAUSED")
    await ask(client, id, "RUNNING")
    await ask(client, id, "FAILED")
    paused_once = (await client.ask("GetFlowRun", id=id))["empiricalPolicy"]["pauseKeys"]

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["flowRun"]["runCount"]) == ("ACCEPT", True, 2)
    run = await client.ask("GetFlowRun", id=id)
    assert (len(paused_once), run["empiricalPolicy"]["pauseKeys"], run["endTime"]) == (1, [], None)


async def test_a_client_can_not_run_a_flow_run_again_whose_result_is_kept(client: Client) -> None:
    id = await create(client)
    await ask(client, id, "COMPLETED", data={"type": "reference"})
    before = await client.ask("GetFlowRun", id=id)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["state"]["id"]) == ("REJECT", False, before["stateId"])
    assert await client.ask("GetFlowRun", id=id) == before
