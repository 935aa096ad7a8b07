"""When a flow run may pause."""

from typing import Any
from uuid import UUID

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.pause_flow_runs import pause_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import create_flow_run

ONLY_DEPLOYED = Decision(
    OrchestrationStatus.ABORT,
    None,
    "Only a flow run from a deployment, and no subflow, can be started again after a pause.",
)

# --- the rule ---


def test_a_running_flow_run_may_pause_and_notes_the_pause() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b"]')
    proposed = propose(StateType.PAUSED, pause_key="a")

    decision = decide([pause_flow_runs], transition(running, proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(pause_keys=("b", "a")))


def test_a_pause_without_a_key_is_noted_under_a_fresh_one_each_time() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b"]')

    decisions = [decide([pause_flow_runs], transition(running, StateType.PAUSED)) for _ in range(2)]

    (first, one), (second, other) = [each.effects.pause_keys or () for each in decisions]
    assert [each.status for each in decisions] == [OrchestrationStatus.ACCEPT] * 2
    assert (first, second) == ("b", "b")
    assert UUID(one) != UUID(other)


def test_a_pause_that_was_had_is_not_had_again() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b","a"]')

    decision = decide([pause_flow_runs], transition(running, propose(StateType.PAUSED, pause_key="a")))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "The flow run has had this pause.")


@pytest.mark.parametrize("leaving", [each for each in StateType if each is not StateType.RUNNING])
def test_a_flow_run_that_is_not_running_can_not_pause(leaving: StateType) -> None:
    decision = decide([pause_flow_runs], transition(flow_run(leaving), StateType.PAUSED))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is {leaving.value}, not RUNNING: it can not pause."
    )


def test_a_flow_run_without_a_state_is_not_asked_to_pause_again() -> None:
    decision = decide([pause_flow_runs], transition(flow_run(), StateType.PAUSED))

    assert decision == Decision(OrchestrationStatus.ABORT, None, "The flow run is in no state: it can not pause.")


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({"deployment_id": "d"}, True),
        ({"deployment_id": None}, False),
        ({"deployment_id": "d", "parent_task_run_id": "p"}, False),
    ],
)
def test_only_a_flow_run_that_somebody_would_start_again_may_leave_its_process(
    fields: dict[str, Any], may: bool
) -> None:
    proposed = propose(StateType.PAUSED, pause_key="a", pause_reschedule=True)

    decision = decide([pause_flow_runs], transition(flow_run(StateType.RUNNING, **fields), proposed))

    accepted = Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(pause_keys=("a",)))
    assert decision == (accepted if may else ONLY_DEPLOYED)


def test_a_subflow_may_pause_within_its_process() -> None:
    subflow = flow_run(StateType.RUNNING, parent_task_run_id="p")

    decision = decide([pause_flow_runs], transition(subflow, StateType.PAUSED))

    assert decision.status is OrchestrationStatus.ACCEPT


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.PAUSED])
def test_no_other_state_is_a_pause(entering: StateType) -> None:
    decision = decide([pause_flow_runs], transition(flow_run(StateType.RUNNING), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


# --- as clients meet it ---


async def pause(client: Client, id: str, **details: Any) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": "PAUSED", "details": details})


async def test_a_client_may_pause_a_running_flow_run_once_for_each_key(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")

    answers = []
    for key in ("a", "b", "a"):
        answers.append(await pause(client, id, pauseKey=key))
        await client.ask("SetFlowRunState", id=id, state={"type": "RUNNING"})

    assert [(each["status"], each["created"]) for each in answers] == [
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("REJECT", False),
    ]
    assert (await client.ask("GetFlowRun", id=id))["empiricalPolicy"]["pauseKeys"] == ["a", "b"]


async def test_a_client_can_not_pause_what_does_not_run(client: Client) -> None:
    id = await create_flow_run(client, "PENDING")
    before = await client.ask("GetFlowRun", id=id)

    answer = await pause(client, id, pauseKey="a")

    assert (answer["status"], answer["created"]) == ("REJECT", False)
    assert await client.ask("GetFlowRun", id=id) == before


async def test_a_client_is_stopped_that_would_leave_a_process_which_nobody_starts_again(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    before = await client.ask("GetFlowRun", id=id)

    answer = await pause(client, id, pauseReschedule=True)

    assert (answer["status"], answer["created"]) == ("ABORT", False)
    assert await client.ask("GetFlowRun", id=id) == before
