"""Forcing a failed run to COMPLETED replaces the reference left by the failure with an unknown result."""

from collections.abc import Callable
from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.mark_unknown_results import mark_unknown_results
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, set_task_run_state
from tests.builders.transitions import flow_run, propose, task_run, transition
from tests.client import Client

REFERENCE = '{"type":"reference","key":"a"}'
OWN = propose(StateType.COMPLETED, name="Mine", message="Fixed", data="1", cache_key="k")
MARKED = propose(
    StateType.COMPLETED, name="Mine", message="Fixed", data='{"type":"unknown","value":null}', cache_key="k"
)


@pytest.mark.parametrize("leaving", [StateType.FAILED, StateType.CRASHED])
@pytest.mark.parametrize("run", [task_run, flow_run])
def test_a_failed_run_with_a_reference_completes_with_an_unknown_result(
    run: Callable[..., Any], leaving: StateType
) -> None:
    decision = decide([mark_unknown_results], transition(run(leaving, data=REFERENCE), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, MARKED)


@pytest.mark.parametrize(
    "data",
    [None, "null", "{}", '{"type":"literal"}', '{"type":"unpersisted"}', '{"a":1}', '"reference"', "7", "true", "[0]"],
)
def test_a_failed_run_with_other_data_completes_with_the_clients_result(data: str | None) -> None:
    decision = decide([mark_unknown_results], transition(task_run(StateType.FAILED, data=data), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, OWN)


@pytest.mark.parametrize(
    "leaving", [None, *(each for each in StateType if each not in {StateType.FAILED, StateType.CRASHED})]
)
def test_a_run_that_had_not_failed_completes_with_the_clients_result(leaving: StateType | None) -> None:
    decision = decide([mark_unknown_results], transition(task_run(leaving, data=REFERENCE), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, OWN)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.COMPLETED])
def test_no_other_state_is_marked(entering: StateType) -> None:
    proposed = propose(entering, data="1")

    decision = decide([mark_unknown_results], transition(task_run(StateType.FAILED, data=REFERENCE), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_only_the_forced_policies_mark_unknown_results() -> None:
    forced = [policy.FORCED, policy.FORCED_FLOW_RUN]
    others = [policy.IN_FLOW_RUN, policy.IN_BACKGROUND, policy.FLOW_RUN]

    assert [mark_unknown_results in each for each in (*forced, *others)] == [True, True, False, False, False]


@pytest.mark.parametrize("in_flow_run", [True, False])
@pytest.mark.parametrize(
    ("failed", "force", "data"),
    [
        ("FAILED", True, {"type": "unknown", "value": None}),
        ("CRASHED", True, {"type": "unknown", "value": None}),
        ("CANCELLED", True, 1),
        ("FAILED", False, 1),
    ],
)
async def test_only_forcing_a_failed_run_to_complete_gives_an_unknown_result(
    client: Client, in_flow_run: bool, failed: str, force: bool, data: object
) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create_task_run(client, "RUNNING", **fields)
    await set_task_run_state(client, id, failed, data={"type": "reference"})

    result = await set_task_run_state(client, id, "COMPLETED", data=1, force=force)

    assert (result["status"], result["state"]["data"]) == ("ACCEPT", data)
    assert (await client.execute("GetTaskRun", id=id))["state"]["data"] == data


@pytest.mark.parametrize("data", ["text", [1], 7, True])
async def test_a_failed_run_with_nonobject_data_can_be_forced_to_complete(client: Client, data: object) -> None:
    id = await create_task_run(client, "RUNNING")
    await set_task_run_state(client, id, "FAILED", data=data)

    result = await set_task_run_state(client, id, "COMPLETED", data="own", force=True)

    assert (result["status"], result["state"]["data"]) == ("ACCEPT", "own")
