"""When a flow run may pause."""

from typing import Any

import pytest

from db.enums import StateType
from db.runtime.ids import canonical_id
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.flow_runs.pause_flow_runs import pause_flow_runs
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, set_flow_run_state
from tests.builders.transitions import flow_run, propose, transition
from tests.client import Client

ONLY_DEPLOYED = Decision(
    OrchestrationStatus.ABORT,
    None,
    "`pauseReschedule` requires a flow run with a deployment that is not a subflow.",
)


def test_a_running_flow_run_may_pause_and_records_the_pause_key() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b"]')
    proposed = propose(StateType.PAUSED, pause_key="a")

    decision = decide([pause_flow_runs], transition(running, proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(pause_keys=("b", "a")))


def test_a_pause_without_a_key_records_the_new_key_of_the_transition() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b"]')

    decision = decide([pause_flow_runs], transition(running, StateType.PAUSED, new_pause_key="new"))

    assert decision == Decision(
        OrchestrationStatus.ACCEPT, propose(StateType.PAUSED), effects=Effects(pause_keys=("b", "new"))
    )


def test_a_pause_key_cannot_be_used_twice() -> None:
    running = flow_run(StateType.RUNNING, pause_keys_json='["b","a"]')

    decision = decide([pause_flow_runs], transition(running, propose(StateType.PAUSED, pause_key="a")))

    assert decision == Decision(
        OrchestrationStatus.REJECT,
        None,
        "The flow run has already used this pause key. Use a new key for another pause.",
    )


@pytest.mark.parametrize("leaving", [each for each in StateType if each is not StateType.RUNNING])
def test_a_flow_run_that_is_not_running_cannot_pause(leaving: StateType) -> None:
    decision = decide([pause_flow_runs], transition(flow_run(leaving), StateType.PAUSED))

    assert decision == Decision(
        OrchestrationStatus.REJECT, None, f"The flow run is {leaving.value}; only a RUNNING flow run can pause."
    )


def test_pausing_a_flow_run_without_a_state_is_aborted() -> None:
    decision = decide([pause_flow_runs], transition(flow_run(), StateType.PAUSED))

    assert decision == Decision(OrchestrationStatus.ABORT, None, "The flow run has no state and cannot pause.")


@pytest.mark.parametrize(
    ("fields", "is_allowed"),
    [
        ({"deployment_id": "d"}, True),
        ({"deployment_id": None}, False),
        ({"deployment_id": "d", "parent_task_run_id": "p"}, False),
    ],
)
def test_only_deployed_top_level_flow_runs_may_pause_with_reschedule(fields: dict[str, Any], is_allowed: bool) -> None:
    proposed = propose(StateType.PAUSED, pause_key="a", pause_reschedule=True)

    decision = decide([pause_flow_runs], transition(flow_run(StateType.RUNNING, **fields), proposed))

    accepted = Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(pause_keys=("a",)))
    assert decision == (accepted if is_allowed else ONLY_DEPLOYED)


def test_a_subflow_may_pause_without_reschedule() -> None:
    subflow = flow_run(StateType.RUNNING, parent_task_run_id="p")

    decision = decide([pause_flow_runs], transition(subflow, StateType.PAUSED))

    assert decision.status is OrchestrationStatus.ACCEPT


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.PAUSED])
def test_no_other_state_records_a_pause(entering: StateType) -> None:
    decision = decide([pause_flow_runs], transition(flow_run(StateType.RUNNING), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


async def pause(client: Client, id: str, **details: Any) -> dict[str, Any]:
    return await set_flow_run_state(client, id, "PAUSED", details=details)


async def test_a_client_may_pause_a_running_flow_run_once_per_key(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")

    results = []
    for key in ("a", "b", "a"):
        results.append(await pause(client, id, pauseKey=key))
        await client.execute("SetFlowRunState", id=id, state={"type": "RUNNING"})

    assert [(each["status"], each["stateCreated"]) for each in results] == [
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("REJECT", False),
    ]
    assert (await client.execute("GetFlowRun", id=id))["pauseKeys"] == ["a", "b"]


async def test_a_client_may_pause_without_a_key_any_number_of_times(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")

    for _ in range(2):
        assert (await pause(client, id))["status"] == "ACCEPT"
        await client.execute("SetFlowRunState", id=id, state={"type": "RUNNING"})

    first, second = (await client.execute("GetFlowRun", id=id))["pauseKeys"]
    assert canonical_id(first) == first != second == canonical_id(second)


async def test_a_client_cannot_pause_a_flow_run_that_is_not_running(client: Client) -> None:
    id = await create_flow_run(client, "PENDING")
    before = await client.execute("GetFlowRun", id=id)

    result = await pause(client, id, pauseKey="a")

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert await client.execute("GetFlowRun", id=id) == before


async def test_a_client_cannot_pause_with_reschedule_without_a_deployment(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    before = await client.execute("GetFlowRun", id=id)

    result = await pause(client, id, pauseReschedule=True)

    assert (result["status"], result["stateCreated"]) == ("ABORT", False)
    assert await client.execute("GetFlowRun", id=id) == before
