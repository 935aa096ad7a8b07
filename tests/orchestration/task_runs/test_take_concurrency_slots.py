"""The number of RUNNING runs with a tag does not exceed the limit of the tag."""

from typing import Any

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN, Policy
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import take_concurrency_slots
from resolvers.orchestration.transition import Effects, LimitFacts, OrchestrationStatus
from tests.builders.api_runs import (
    create_flow_run,
    create_task_run,
    read_slot_holders,
    read_state_names,
    set_task_run_state,
)
from tests.builders.transitions import flow_run_facts, in_seconds, propose, task_run, transition
from tests.client import Client
from tests.serving import RunningServer

TAKES = Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(takes_slots=True))


def limit(tag: str, limit: int, used_by_others: int) -> LimitFacts:
    return LimitFacts(f"the limit of {tag}", tag, limit, used_by_others)


def waits(tag: str, limit: int = 1) -> Decision:
    reason = f"All slots of tag '{tag}' are in use; its concurrency limit is {limit}."
    return Decision(OrchestrationStatus.WAIT, None, reason, 30.0, waits_for_tag=tag)


def aborted(tag: str) -> Decision:
    reason = f"The concurrency limit of tag '{tag}' is 0: no task run with this tag can run."
    return Decision(OrchestrationStatus.ABORT, None, reason, waits_for_tag=tag)


@pytest.mark.parametrize("leaving", [None, *StateType])
@pytest.mark.parametrize("used", [0, 1, 2])
def test_a_run_takes_a_free_slot(leaving: StateType | None, used: int) -> None:
    decision = decide(
        [take_concurrency_slots], transition(task_run(leaving), StateType.RUNNING, limits=[limit("x", 3, used)])
    )

    assert decision == TAKES


@pytest.mark.parametrize(("allowed", "used"), [(3, 3), (3, 4), (1, 1), (-1, 0), (-1, 5)])
def test_a_run_waits_thirty_seconds_if_no_slot_is_free(allowed: int, used: int) -> None:
    decision = decide(
        [take_concurrency_slots],
        transition(task_run(StateType.PENDING), StateType.RUNNING, limits=[limit("x", allowed, used)]),
    )

    assert decision == waits("x", allowed)


@pytest.mark.parametrize("used", [0, 2])
def test_a_run_is_aborted_if_the_limit_is_zero(used: int) -> None:
    decision = decide(
        [take_concurrency_slots],
        transition(task_run(StateType.PENDING), StateType.RUNNING, limits=[limit("x", 0, used)]),
    )

    assert decision == aborted("x")


def test_a_run_without_limits_takes_no_slot() -> None:
    decision = decide([take_concurrency_slots], transition(task_run(StateType.PENDING), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize(
    ("limits", "decision"),
    [
        ([limit("a", 1, 0), limit("b", 1, 0)], TAKES),
        ([limit("a", 1, 1), limit("b", 1, 0)], waits("a")),
        ([limit("a", 1, 0), limit("b", 1, 1)], waits("b")),
        ([limit("a", 1, 0), limit("b", 0, 0)], aborted("b")),
        ([limit("a", 0, 0), limit("b", 1, 1)], aborted("a")),
        ([limit("a", 1, 1), limit("b", 0, 0)], waits("a")),
    ],
)
def test_slots_are_all_or_nothing_and_the_first_refusal_decides(limits: list[LimitFacts], decision: Decision) -> None:
    actual = decide([take_concurrency_slots], transition(task_run(StateType.PENDING), StateType.RUNNING, limits=limits))

    assert actual == decision


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_needs_a_slot(entering: StateType) -> None:
    decision = decide(
        [take_concurrency_slots], transition(task_run(StateType.PENDING), entering, limits=[limit("x", 0, 0)])
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_run_that_waits_for_its_scheduled_time_takes_no_slot(rules: Policy) -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))
    flow_run = flow_run_facts(StateType.RUNNING)

    decision = decide(rules, transition(scheduled, StateType.RUNNING, flow_run=flow_run, limits=[limit("x", 1, 0)]))

    assert (decision.status, decision.delay_seconds, decision.effects) == (OrchestrationStatus.WAIT, 100.0, Effects())


def test_the_forced_policy_checks_no_limit() -> None:
    assert take_concurrency_slots not in policy.FORCED


async def create_limits(client: Client, **limits: int) -> None:
    for tag, allowed in limits.items():
        await client.execute("SetConcurrencyLimit", tag=tag, limit=allowed)


async def test_a_client_waits_for_a_slot_and_runs_once_one_is_free(client: Client) -> None:
    await create_limits(client, x=1)
    first, second = [await create_task_run(client, "PENDING", tags=["x"]) for _ in range(2)]
    await set_task_run_state(client, first, "RUNNING")

    waiting = await set_task_run_state(client, second, "RUNNING")
    assert (waiting["status"], waiting["stateCreated"], waiting["delaySeconds"]) == ("WAIT", False, 30.0)
    assert waiting["taskRun"] == {
        "id": second,
        "stateType": "PENDING",
        "runCount": 0,
        "startTime": None,
        "endTime": None,
        "totalRunTimeSeconds": 0.0,
    }
    assert await read_slot_holders(client, "x") == [first]

    await set_task_run_state(client, first, "COMPLETED")
    accepted = await set_task_run_state(client, second, "RUNNING")

    assert (accepted["status"], accepted["stateCreated"]) == ("ACCEPT", True)
    assert await read_slot_holders(client, "x") == [second]
    assert await read_state_names(client, second) == ["Pending", "Running"]


async def test_a_limit_of_zero_aborts_the_clients_transition(client: Client) -> None:
    await create_limits(client, x=0)
    id = await create_task_run(client, "PENDING", tags=["x"])

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await read_slot_holders(client, "x") == []
    assert await read_state_names(client, id) == ["Pending"]


async def test_a_negative_limit_makes_every_run_wait(client: Client) -> None:
    await create_limits(client, x=-1)
    id = await create_task_run(client, "PENDING", tags=["x"])

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["delaySeconds"]) == ("WAIT", False, 30.0)


@pytest.mark.parametrize(("full", "free"), [("a", "b"), ("b", "a")])
async def test_a_run_that_waits_for_one_tag_holds_no_slot_of_another(client: Client, full: str, free: str) -> None:
    await create_limits(client, a=1, b=1)
    holder = await create_task_run(client, "RUNNING", tags=[full])
    id = await create_task_run(client, "PENDING", tags=["b", "a"])

    result = await set_task_run_state(client, id, "RUNNING")

    reason = f"All slots of tag '{full}' are in use; its concurrency limit is 1."
    assert (result["status"], result["reason"]) == ("WAIT", reason)
    assert (await read_slot_holders(client, full), await read_slot_holders(client, free)) == ([holder], [])


async def test_a_failed_run_that_has_to_wait_keeps_its_run_count(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])
    await set_task_run_state(client, id, "FAILED")
    await create_task_run(client, "RUNNING", tags=["x"])

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["taskRun"]["runCount"]) == ("WAIT", 1)


@pytest.mark.parametrize("through", ["RUNNING", "CANCELLING"])
async def test_a_runs_own_slot_does_not_block_it(client: Client, through: str) -> None:
    await create_limits(client, a=1, b=1)
    id = await create_task_run(client, "PENDING", tags=["a", "b"], flowRunId=await create_flow_run(client, "RUNNING"))
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, through)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)
    assert (await read_slot_holders(client, "a"), await read_slot_holders(client, "b")) == ([id], [id])


async def test_a_repeated_tag_takes_one_slot(client: Client) -> None:
    await create_limits(client, x=2)

    ids = [await create_task_run(client, "RUNNING", tags=["x", "x"]) for _ in range(2)]

    assert await read_slot_holders(client, "x") == sorted(ids)


@pytest.mark.parametrize("tags", [[["x"]] * 8, [[], ["x", "y"]] * 4], ids=["one_tag_each", "two_tags_on_half"])
async def test_a_batch_of_runs_created_running_takes_its_slots(client: Client, tags: list[list[str]]) -> None:
    await create_limits(client, x=8, y=8)
    inputs = [{"taskKey": "t", "tags": each, "state": {"type": "RUNNING"}} for each in tags]

    payloads = (await client.execute("CreateTaskRuns", inputs=inputs))["results"]

    assert [payload["taskRun"]["stateType"] for payload in payloads] == ["RUNNING"] * 8
    ids = [payload["taskRun"]["id"] for payload in payloads]
    for tag in ("x", "y"):
        expected = sorted(id for id, each in zip(ids, tags, strict=True) if tag in each)
        assert await read_slot_holders(client, tag) == expected


async def test_a_limit_matches_its_tag_exactly(client: Client) -> None:
    await create_limits(client, Red=0)

    results = [
        await set_task_run_state(client, await create_task_run(client, "PENDING", tags=[tag]), "RUNNING")
        for tag in ("red", "Red ", "Red")
    ]

    assert [each["status"] for each in results] == ["ACCEPT", "ACCEPT", "ABORT"]


async def test_a_new_limit_counts_a_running_run_only_after_it_reruns(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", tags=["x"])
    await create_limits(client, x=1)
    before = await read_slot_holders(client, "x")

    await set_task_run_state(client, id, "RUNNING")

    assert (before, await read_slot_holders(client, "x")) == ([], [id])


async def test_a_lowered_limit_keeps_running_runs_and_blocks_new_ones(client: Client) -> None:
    await create_limits(client, x=2)
    ids = [await create_task_run(client, "RUNNING", tags=["x"]) for _ in range(2)]
    await create_limits(client, x=1)
    late = await create_task_run(client, "PENDING", tags=["x"])

    results = [await set_task_run_state(client, ids[0], "COMPLETED"), await set_task_run_state(client, late, "RUNNING")]

    assert [each["status"] for each in results] == ["ACCEPT", "WAIT"]
    assert await read_slot_holders(client, "x") == [ids[1]]


@pytest.mark.parametrize("held_in", ["RUNNING", "CANCELLING"])
@pytest.mark.parametrize("type", ["SCHEDULED", "PENDING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "PAUSED"])
@pytest.mark.parametrize("force", [False, True])
async def test_every_state_after_running_or_cancelling_frees_the_slots(
    client: Client, held_in: str, type: str, force: bool
) -> None:
    await create_limits(client, a=1, b=1)
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "PENDING", tags=["a", "b"], flowRunId=flow_run_id)
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, held_in)
    assert (await read_slot_holders(client, "a"), await read_slot_holders(client, "b")) == ([id], [id])

    result = await set_task_run_state(client, id, type, force=force)

    assert result["status"] == "ACCEPT"
    assert (await read_slot_holders(client, "a"), await read_slot_holders(client, "b")) == ([], [])


async def test_a_cancelling_run_keeps_its_slot(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "SCHEDULED", tags=["x"])
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    await set_task_run_state(client, id, "RUNNING", lease_id=delivery["leaseId"])

    await set_task_run_state(client, id, "CANCELLING")

    assert await read_slot_holders(client, "x") == [id]


async def test_a_run_that_awaits_its_retry_holds_no_slot(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"], retryPolicy={"retries": 1})

    result = await set_task_run_state(client, id, "FAILED")

    assert result["state"]["name"] == "AwaitingRetry"
    assert await read_slot_holders(client, "x") == []


async def test_a_run_that_is_not_ready_holds_no_slot(client: Client) -> None:
    await create_limits(client, x=1)
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "PENDING", tags=["x"], flowRunId=flow_run_id)
    await set_task_run_state(client, id, "RUNNING")
    await client.execute("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"})

    result = await set_task_run_state(client, id, "RUNNING")

    assert result["state"]["name"] == "NotReady"
    assert await read_slot_holders(client, "x") == []


async def test_an_aborted_transition_frees_no_slot(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])

    result = await set_task_run_state(client, id, "PENDING")

    assert (result["status"], await read_slot_holders(client, "x")) == ("ABORT", [id])


async def test_a_deleted_run_frees_its_slot(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])

    await client.execute("DeleteTaskRun", id=id)

    assert await read_slot_holders(client, "x") == []
    result = await set_task_run_state(client, await create_task_run(client, "PENDING", tags=["x"]), "RUNNING")
    assert result["status"] == "ACCEPT"


async def test_a_run_may_end_after_its_limit_was_deleted(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])
    await client.execute("DeleteConcurrencyLimit", tag="x")

    result = await set_task_run_state(client, id, "COMPLETED")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)


@pytest.mark.parametrize("allowed", [0, 1])
async def test_a_forced_run_ignores_limits_and_takes_no_slot(client: Client, allowed: int) -> None:
    await create_limits(client, x=allowed)
    id = await create_task_run(client, "PENDING", tags=["x"])

    result = await set_task_run_state(client, id, "RUNNING", force=True)

    assert (result["status"], await read_slot_holders(client, "x")) == ("ACCEPT", [])


async def test_a_forced_rerun_keeps_its_slot(client: Client) -> None:
    await create_limits(client, x=1)
    id = await create_task_run(client, "RUNNING", tags=["x"])

    await set_task_run_state(client, id, "RUNNING", force=True)

    assert await read_slot_holders(client, "x") == [id]


async def test_a_run_created_running_in_a_flow_run_takes_no_slot(client: Client) -> None:
    await create_limits(client, x=0)

    id = await create_task_run(client, "RUNNING", tags=["x"], flowRunId=await create_flow_run(client, "RUNNING"))

    assert await read_state_names(client, id) == ["Running"]
    assert await read_slot_holders(client, "x") == []


@pytest.mark.parametrize("allowed", [1, 0, -1])
async def test_a_background_run_that_cannot_be_created_running_is_not_created(client: Client, allowed: int) -> None:
    await create_limits(client, x=1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    await create_limits(client, x=allowed)
    new: dict[str, Any] = {"taskKey": "t", "dynamicKey": "1", "tags": ["x"], "state": {"type": "RUNNING"}}

    error = await client.execute_refused("CreateTaskRun", input=new)

    assert (error["code"], error["argument"]) == ("CONFLICT", "input.state")
    assert await read_slot_holders(client, "x") == [holder]
    assert [run["id"] for run in (await client.execute("ListTaskRuns"))["nodes"]] == [holder]
    assert (await client.execute("CreateTaskRun", input={**new, "state": None}))["created"] is True


async def test_a_request_that_exceeds_the_limit_creates_none_of_its_runs(client: Client) -> None:
    await create_limits(client, x=1)

    error = await client.execute_refused(
        "CreateTaskRuns", inputs=[{"taskKey": "t", "tags": ["x"], "state": {"type": "RUNNING"}}] * 2
    )

    assert (error["code"], error["argument"]) == ("CONFLICT", "inputs.1.state")
    assert await read_slot_holders(client, "x") == []
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


async def set_states(client: Client, *changes: tuple[str, str]) -> list[str]:
    rows = (
        await client.execute(
            "SetTaskRunStates", inputs=[{"taskRunId": id, "state": {"type": type}} for id, type in changes]
        )
    )["results"]
    return [row["result"]["status"] for row in rows]


async def test_two_runs_of_one_request_see_each_others_slots(client: Client) -> None:
    await create_limits(client, x=1)
    first, second = [await create_task_run(client, "PENDING", tags=["x"]) for _ in range(2)]

    statuses = await set_states(client, (first, "RUNNING"), (second, "RUNNING"))

    assert statuses == ["ACCEPT", "WAIT"]
    assert await read_slot_holders(client, "x") == [first]


async def test_a_slot_freed_in_a_request_may_be_taken_later_in_it(client: Client) -> None:
    await create_limits(client, x=1)
    first = await create_task_run(client, "RUNNING", tags=["x"])
    second = await create_task_run(client, "PENDING", tags=["x"])

    statuses = await set_states(client, (first, "COMPLETED"), (second, "RUNNING"))

    assert statuses == ["ACCEPT", "ACCEPT"]
    assert await read_slot_holders(client, "x") == [second]


async def test_concurrent_requests_start_only_as_many_runs_as_free_slots(server: RunningServer) -> None:
    client = server.client
    await create_limits(client, x=2)
    ids = [await create_task_run(client, "PENDING", tags=["x"]) for _ in range(6)]

    async with client.socket() as socket:
        # While the first write is in progress, the others are collected into one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        request_ids = [await socket.subscribe("SetTaskRunState", id=id, state={"type": "RUNNING"}) for id in ids]
        messages = [await socket.receive() for _ in range(14)]

    results = [each["payload"]["data"] for each in messages if each["id"] in request_ids and each["type"] == "next"]
    statuses = [result["setTaskRunState"]["status"] for result in results]
    assert sorted(statuses) == ["ACCEPT"] * 2 + ["WAIT"] * 4
    assert len(await read_slot_holders(client, "x")) == 2
