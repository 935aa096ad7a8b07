"""A result that a failure left behind is not passed off as that of a success."""

from collections.abc import Callable
from typing import Any

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.mark_unknown_results import mark_unknown_results
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run, propose, task_run, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run

REFERENCE = '{"type":"reference","key":"a"}'
OWN = propose(StateType.COMPLETED, name="Mine", message="Fixed", data="1", cache_key="k")
MARKED = propose(
    StateType.COMPLETED, name="Mine", message="Fixed", data='{"type":"unknown","value":null}', cache_key="k"
)

# --- the rule ---


@pytest.mark.parametrize("leaving", [StateType.FAILED, StateType.CRASHED])
@pytest.mark.parametrize("run", [task_run, flow_run])
def test_a_run_that_had_failed_with_a_reference_completes_with_an_unknown_result(
    run: Callable[..., Any], leaving: StateType
) -> None:
    decision = decide([mark_unknown_results], transition(run(leaving, data=REFERENCE), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, MARKED)


@pytest.mark.parametrize(
    "data",
    [None, "null", "{}", '{"type":"literal"}', '{"type":"unpersisted"}', '{"a":1}', '"reference"', "7", "true", "[0]"],
)
def test_a_run_that_had_failed_with_anything_else_completes_with_the_client_s_result(data: str | None) -> None:
    decision = decide([mark_unknown_results], transition(task_run(StateType.FAILED, data=data), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, OWN)


@pytest.mark.parametrize(
    "leaving", [None, *(each for each in StateType if each not in {StateType.FAILED, StateType.CRASHED})]
)
def test_a_run_that_had_not_failed_completes_with_the_client_s_result(leaving: StateType | None) -> None:
    decision = decide([mark_unknown_results], transition(task_run(leaving, data=REFERENCE), OWN))

    assert decision == Decision(OrchestrationStatus.ACCEPT, OWN)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.COMPLETED])
def test_no_other_state_is_marked(entering: StateType) -> None:
    proposed = propose(entering, data="1")

    decision = decide([mark_unknown_results], transition(task_run(StateType.FAILED, data=REFERENCE), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_force_marks_and_the_other_policies_do_not() -> None:
    forced = [policy.FORCED, policy.FORCED_FLOW_RUN]
    others = [policy.IN_FLOW_RUN, policy.IN_BACKGROUND, policy.FLOW_RUN]

    assert [mark_unknown_results in each for each in (*forced, *others)] == [True, True, False, False, False]


# --- as clients meet it ---


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
async def test_a_client_sees_an_unknown_result_where_it_forced_a_failure_to_be_a_success(
    client: Client, in_flow_run: bool, failed: str, force: bool, data: object
) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create(client, "RUNNING", **fields)
    await ask(client, id, failed, data={"type": "reference"})

    answer = await ask(client, id, "COMPLETED", data=1, force=force)

    assert (answer["status"], answer["state"]["data"]) == ("ACCEPT", data)
    assert (await client.ask("GetTaskRun", id=id))["state"]["data"] == data


@pytest.mark.parametrize("data", ["text", [1], 7, True])
async def test_a_failure_with_data_that_is_no_object_may_be_forced_to_be_a_success(
    client: Client, data: object
) -> None:
    id = await create(client, "RUNNING")
    await ask(client, id, "FAILED", data=data)

    answer = await ask(client, id, "COMPLETED", data="own", force=True)

    assert (answer["status"], answer["state"]["data"]) == ("ACCEPT", "own")
