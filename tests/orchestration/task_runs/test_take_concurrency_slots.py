"""No more runs of a tag at a time than its limit allows."""

from typing import Any

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN, Policy
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import take_concurrency_slots
from resolvers.orchestration.transition import Effects, LimitFacts, OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition, under_flow_run
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history
from tests.serving import Serving

TAKES = Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(takes_slots=True))


def limit(tag: str, limit: int, used_by_others: int) -> LimitFacts:
    return LimitFacts(f"the limit of {tag}", tag, limit, used_by_others)


def waits(tag: str) -> Decision:
    return Decision(
        OrchestrationStatus.WAIT, None, f"All slots of the tag '{tag}' are taken.", 30.0, waits_for_slot=True
    )


def aborted(tag: str) -> Decision:
    return Decision(
        OrchestrationStatus.ABORT, None, f"The concurrency limit of the tag '{tag}' is 0: nothing with it may run."
    )


# --- the rule ---


@pytest.mark.parametrize("leaving", [None, *StateType])
@pytest.mark.parametrize("used", [0, 1, 2])
def test_a_run_takes_a_slot_where_one_is_free(leaving: StateType | None, used: int) -> None:
    decision = decide(
        [take_concurrency_slots], transition(task_run(leaving), StateType.RUNNING, limits=[limit("x", 3, used)])
    )

    assert decision == TAKES


@pytest.mark.parametrize(("allowed", "used"), [(3, 3), (3, 4), (1, 1), (-1, 0), (-1, 5)])
def test_a_run_waits_thirty_seconds_where_none_is(allowed: int, used: int) -> None:
    decision = decide(
        [take_concurrency_slots],
        transition(task_run(StateType.PENDING), StateType.RUNNING, limits=[limit("x", allowed, used)]),
    )

    assert decision == waits("x")


@pytest.mark.parametrize("used", [0, 2])
def test_a_run_is_aborted_where_nothing_with_its_tag_may_run(used: int) -> None:
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
def test_a_run_takes_a_slot_of_every_limit_or_of_none_and_the_first_that_refuses_says_why(
    limits: list[LimitFacts], decision: Decision
) -> None:
    decided = decide(
        [take_concurrency_slots], transition(task_run(StateType.PENDING), StateType.RUNNING, limits=limits)
    )

    assert decided == decision


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_needs_a_slot(entering: StateType) -> None:
    decision = decide(
        [take_concurrency_slots], transition(task_run(StateType.PENDING), entering, limits=[limit("x", 0, 0)])
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_run_that_has_to_wait_for_its_time_takes_no_slot(rules: Policy) -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))
    flow_run = under_flow_run(StateType.RUNNING)

    decision = decide(rules, transition(scheduled, StateType.RUNNING, flow_run=flow_run, limits=[limit("x", 1, 0)]))

    assert (decision.status, decision.delay_seconds, decision.effects) == (OrchestrationStatus.WAIT, 100.0, Effects())


def test_force_asks_no_limit() -> None:
    assert take_concurrency_slots not in policy.FORCED


# --- as clients meet it ---


async def limited(client: Client, **limits: int) -> None:
    for tag, allowed in limits.items():
        await client.ask("CreateConcurrencyLimit", tag=tag, limit=allowed)


async def holders(client: Client, tag: str) -> list[str]:
    return (await client.ask("GetConcurrencyLimit", tag=tag))["activeSlots"]


async def test_a_client_is_told_to_wait_while_all_slots_are_taken_and_may_run_when_one_is_free(client: Client) -> None:
    await limited(client, x=1)
    first, second = [await create(client, "PENDING", tags=["x"]) for _ in range(2)]
    await ask(client, first, "RUNNING")

    waiting = await ask(client, second, "RUNNING")
    assert (waiting["status"], waiting["created"], waiting["delaySeconds"]) == ("WAIT", False, 30.0)
    assert waiting["taskRun"] == {
        "id": second,
        "stateType": "PENDING",
        "runCount": 0,
        "startTime": None,
        "endTime": None,
        "totalRunTimeSeconds": 0.0,
    }
    assert await holders(client, "x") == [first]

    await ask(client, first, "COMPLETED")
    accepted = await ask(client, second, "RUNNING")

    assert (accepted["status"], accepted["created"]) == ("ACCEPT", True)
    assert await holders(client, "x") == [second]
    assert await history(client, second) == ["Pending", "Running"]


async def test_a_client_is_aborted_where_nothing_with_the_tag_may_run(client: Client) -> None:
    await limited(client, x=0)
    id = await create(client, "PENDING", tags=["x"])

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await holders(client, "x") == []
    assert await history(client, id) == ["Pending"]


async def test_with_a_negative_limit_everybody_waits(client: Client) -> None:
    await limited(client, x=-1)
    id = await create(client, "PENDING", tags=["x"])

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["delaySeconds"]) == ("WAIT", False, 30.0)


@pytest.mark.parametrize(("full", "free"), [("a", "b"), ("b", "a")])
async def test_a_run_that_waits_for_one_tag_holds_no_slot_of_another(client: Client, full: str, free: str) -> None:
    await limited(client, a=1, b=1)
    holder = await create(client, "RUNNING", tags=[full])
    id = await create(client, "PENDING", tags=["b", "a"])

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["reason"]) == ("WAIT", f"All slots of the tag '{full}' are taken.")
    assert (await holders(client, full), await holders(client, free)) == ([holder], [])


async def test_a_failed_run_that_has_to_wait_keeps_its_count(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])
    await ask(client, id, "FAILED")
    await create(client, "RUNNING", tags=["x"])

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["taskRun"]["runCount"]) == ("WAIT", 1)


@pytest.mark.parametrize("through", ["RUNNING", "CANCELLING"])
async def test_a_run_s_own_slot_does_not_stand_in_its_way(client: Client, through: str) -> None:
    await limited(client, a=1, b=1)
    id = await create(client, "RUNNING", tags=["a", "b"])
    await ask(client, id, through)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"]) == ("ACCEPT", True)
    assert (await holders(client, "a"), await holders(client, "b")) == ([id], [id])


async def test_a_tag_that_is_named_twice_takes_one_slot(client: Client) -> None:
    await limited(client, x=2)

    ids = [await create(client, "RUNNING", tags=["x", "x"]) for _ in range(2)]

    assert await holders(client, "x") == sorted(ids)


@pytest.mark.parametrize("tags", [[["x"]] * 8, [[], ["x", "y"]] * 4], ids=["one each", "two of half"])
async def test_many_that_are_created_running_take_their_slots(client: Client, tags: list[list[str]]) -> None:
    await limited(client, x=8, y=8)
    inputs = [{"taskKey": "t", "tags": each, "state": {"type": "RUNNING"}} for each in tags]

    payloads = await client.ask("CreateTaskRuns", inputs=inputs)

    assert [payload["taskRun"]["stateType"] for payload in payloads] == ["RUNNING"] * 8
    ids = [payload["taskRun"]["id"] for payload in payloads]
    for tag in ("x", "y"):
        wanted = sorted(id for id, each in zip(ids, tags, strict=True) if tag in each)
        assert await holders(client, tag) == wanted


async def test_a_limit_is_for_its_tag_exactly(client: Client) -> None:
    await limited(client, Red=0)

    answers = [
        await ask(client, await create(client, "PENDING", tags=[tag]), "RUNNING") for tag in ("red", "Red ", "Red")
    ]

    assert [each["status"] for each in answers] == ["ACCEPT", "ACCEPT", "ABORT"]


async def test_a_run_that_was_running_before_its_limit_holds_no_slot_until_it_runs_again(client: Client) -> None:
    id = await create(client, "RUNNING", tags=["x"])
    await limited(client, x=1)
    before = await holders(client, "x")

    await ask(client, id, "RUNNING")

    assert (before, await holders(client, "x")) == ([], [id])


async def test_a_lower_limit_lets_those_that_run_go_on_and_nobody_else_begin(client: Client) -> None:
    await limited(client, x=2)
    ids = [await create(client, "RUNNING", tags=["x"]) for _ in range(2)]
    await limited(client, x=1)
    late = await create(client, "PENDING", tags=["x"])

    answers = [await ask(client, ids[0], "COMPLETED"), await ask(client, late, "RUNNING")]

    assert [each["status"] for each in answers] == ["ACCEPT", "WAIT"]
    assert await holders(client, "x") == [ids[1]]


# --- which ways out free a slot ---


@pytest.mark.parametrize("held_in", ["RUNNING", "CANCELLING"])
@pytest.mark.parametrize("type", ["SCHEDULED", "PENDING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "PAUSED"])
@pytest.mark.parametrize("force", [False, True])
async def test_every_way_out_frees_the_slots(client: Client, held_in: str, type: str, force: bool) -> None:
    await limited(client, a=1, b=1)
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create(client, "PENDING", tags=["a", "b"], flowRunId=flow_run_id)
    await ask(client, id, "RUNNING")
    await ask(client, id, held_in)
    assert (await holders(client, "a"), await holders(client, "b")) == ([id], [id])

    answer = await ask(client, id, type, force=force)

    assert answer["status"] == "ACCEPT"
    assert (await holders(client, "a"), await holders(client, "b")) == ([], [])


async def test_a_run_that_is_being_called_off_keeps_its_slot(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])

    await ask(client, id, "CANCELLING")

    assert await holders(client, "x") == [id]


async def test_a_run_that_awaits_its_retry_has_freed_its_slot(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"], empiricalPolicy={"retries": 1})

    answer = await ask(client, id, "FAILED")

    assert answer["state"]["name"] == "AwaitingRetry"
    assert await holders(client, "x") == []


async def test_a_run_that_is_not_ready_has_freed_its_slot(client: Client) -> None:
    await limited(client, x=1)
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create(client, "PENDING", tags=["x"], flowRunId=flow_run_id)
    await ask(client, id, "RUNNING")
    await client.ask("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"})

    answer = await ask(client, id, "RUNNING")

    assert answer["state"]["name"] == "NotReady"
    assert await holders(client, "x") == []


async def test_a_refused_change_frees_nothing(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])

    answer = await ask(client, id, "PENDING")

    assert (answer["status"], await holders(client, "x")) == ("ABORT", [id])


async def test_a_deleted_run_frees_its_slot(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])

    await client.ask("DeleteTaskRun", id=id)

    assert await holders(client, "x") == []
    answer = await ask(client, await create(client, "PENDING", tags=["x"]), "RUNNING")
    assert answer["status"] == "ACCEPT"


async def test_a_run_may_end_after_its_limit_is_gone(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])
    await client.ask("DeleteConcurrencyLimit", tag="x")

    answer = await ask(client, id, "COMPLETED")

    assert (answer["status"], answer["created"]) == ("ACCEPT", True)


# --- those who are not asked ---


@pytest.mark.parametrize("allowed", [0, 1])
async def test_a_run_that_is_forced_to_run_is_not_asked_and_takes_no_slot(client: Client, allowed: int) -> None:
    await limited(client, x=allowed)
    id = await create(client, "PENDING", tags=["x"])

    answer = await ask(client, id, "RUNNING", force=True)

    assert (answer["status"], await holders(client, "x")) == ("ACCEPT", [])


async def test_a_run_that_is_forced_to_run_again_keeps_the_slot_that_it_has(client: Client) -> None:
    await limited(client, x=1)
    id = await create(client, "RUNNING", tags=["x"])

    await ask(client, id, "RUNNING", force=True)

    assert await holders(client, "x") == [id]


async def test_a_task_run_of_a_flow_run_that_begins_running_takes_no_slot(client: Client) -> None:
    await limited(client, x=0)

    id = await create(client, "RUNNING", tags=["x"], flowRunId=await create_flow_run(client, "RUNNING"))

    assert await history(client, id) == ["Running"]
    assert await holders(client, "x") == []


# --- runs that begin running in the background ---


@pytest.mark.parametrize("allowed", [1, 0, -1])
async def test_a_background_run_that_can_not_begin_running_is_not_made(client: Client, allowed: int) -> None:
    await limited(client, x=1)
    holder = await create(client, "RUNNING", tags=["x"])
    await limited(client, x=allowed)
    new: dict[str, Any] = {"taskKey": "t", "dynamicKey": "1", "tags": ["x"], "state": {"type": "RUNNING"}}

    error = await client.refused("CreateTaskRun", input=new)

    assert (error["code"], error["argument"]) == ("CONFLICT", "input.state")
    assert await holders(client, "x") == [holder]
    assert [run["id"] for run in (await client.ask("ListTaskRuns"))["nodes"]] == [holder]
    assert (await client.ask("CreateTaskRun", input={**new, "state": None}))["created"] is True


async def test_runs_of_one_call_that_do_not_fit_in_together_are_none_of_them_made(client: Client) -> None:
    await limited(client, x=1)

    error = await client.refused(
        "CreateTaskRuns", inputs=[{"taskKey": "t", "tags": ["x"], "state": {"type": "RUNNING"}}] * 2
    )

    assert (error["code"], error["argument"]) == ("CONFLICT", "inputs.1.state")
    assert await holders(client, "x") == []
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 0


# --- several changes in one call ---


async def set_states(client: Client, *changes: tuple[str, str]) -> list[str]:
    rows = await client.ask("SetTaskRunStates", inputs=[{"id": id, "state": {"type": type}} for id, type in changes])
    return [row["result"]["status"] for row in rows]


async def test_two_runs_of_one_call_see_each_others_slots(client: Client) -> None:
    await limited(client, x=1)
    first, second = [await create(client, "PENDING", tags=["x"]) for _ in range(2)]

    statuses = await set_states(client, (first, "RUNNING"), (second, "RUNNING"))

    assert statuses == ["ACCEPT", "WAIT"]
    assert await holders(client, "x") == [first]


async def test_a_slot_that_is_freed_in_a_call_may_be_taken_later_in_it(client: Client) -> None:
    await limited(client, x=1)
    first = await create(client, "RUNNING", tags=["x"])
    second = await create(client, "PENDING", tags=["x"])

    statuses = await set_states(client, (first, "COMPLETED"), (second, "RUNNING"))

    assert statuses == ["ACCEPT", "ACCEPT"]
    assert await holders(client, "x") == [second]


async def test_of_six_runs_at_once_as_many_run_as_there_are_slots(server: Serving) -> None:
    client = server.client
    await limited(client, x=2)
    ids = [await create(client, "PENDING", tags=["x"]) for _ in range(6)]

    async with client.socket() as socket:
        # While the first write is under way, the others gather for one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        asked = [await socket.subscribe("SetTaskRunState", id=id, state={"type": "RUNNING"}) for id in ids]
        messages = [await socket.receive() for _ in range(14)]

    answers = [each["payload"]["data"] for each in messages if each["id"] in asked and each["type"] == "next"]
    statuses = [answer["setTaskRunState"]["status"] for answer in answers]
    assert sorted(statuses) == ["ACCEPT"] * 2 + ["WAIT"] * 4
    assert len(await holders(client, "x")) == 2


# --- those who wait for a slot ---


@pytest.mark.parametrize(
    ("operation", "variables"),
    [
        ("SetTaskRunState", {"state": {"type": "COMPLETED"}}),
        ("DeleteTaskRun", {}),
        ("ResetConcurrencyLimit", {"tag": "x"}),
        ("CreateConcurrencyLimit", {"tag": "x", "limit": 2}),
        ("DeleteConcurrencyLimit", {"tag": "x"}),
    ],
)
async def test_a_run_that_was_handed_back_for_want_of_a_slot_is_due_as_soon_as_one_is_free(
    client: Client, operation: str, variables: dict[str, Any]
) -> None:
    await limited(client, x=1)
    holder = await create(client, "RUNNING", tags=["x"])
    id = await create(client, "SCHEDULED", tags=["x"])
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        await ask(client, id, "RUNNING", leaseId=delivery["leaseId"])
    await client.ask("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]], delaySeconds=30)
    assert (await client.ask("GetTaskRun", id=id))["queueEntry"]["availableAt"] == "2030-01-01T12:00:30.000000Z"

    await client.ask(operation, **({"id": holder} if "TaskRun" in operation else {}), **variables)

    assert (await client.ask("GetTaskRun", id=id))["queueEntry"]["availableAt"] == "2030-01-01T12:00:00.000000Z"
