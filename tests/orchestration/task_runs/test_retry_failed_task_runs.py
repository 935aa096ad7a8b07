"""A failed task run is tried again, as often and after as long as its policy says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.enums import StateType
from db.records import to_json
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import jittered, retry_failed_task_runs
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history
from tests.serving import Serving

FAILURE = propose(StateType.FAILED, name="OutOfDisk", message="No space left", data="[1]", cache_key="k")


def running(run_count: int, retries: int | None, delays: list[float] | None = None, jitter: float | None = None) -> Any:
    """A run that is RUNNING for the `run_count`th time, with this policy."""
    return task_run(
        StateType.RUNNING,
        run_count=run_count,
        retries=retries,
        retry_delay_seconds_json=None if delays is None else to_json(delays),
        retry_jitter_factor=jitter,
    )


def awaiting_retry(seconds: float) -> Decision:
    again = propose(
        StateType.SCHEDULED,
        name="AwaitingRetry",
        message="No space left",
        data="[1]",
        scheduled_time=in_seconds(seconds),
    )
    return Decision(OrchestrationStatus.REJECT, again, "The run has retries left.")


# --- how often ---


@pytest.mark.parametrize(("run_count", "retries"), [(1, 1), (1, 2), (2, 2), (0, 0)])
def test_a_run_that_has_retries_left_is_scheduled_again_with_the_message_and_data_of_its_failure(
    run_count: int, retries: int
) -> None:
    decision = decide([retry_failed_task_runs], transition(running(run_count, retries), FAILURE))

    assert decision == awaiting_retry(0)


@pytest.mark.parametrize(("run_count", "retries"), [(1, None), (1, 0), (1, -1), (0, -1), (2, 1), (3, 2)])
def test_a_run_that_has_none_left_fails(run_count: int, retries: int | None) -> None:
    decision = decide([retry_failed_task_runs], transition(running(run_count, retries), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


@pytest.mark.parametrize("retriable", [True, None])
def test_a_failure_that_does_not_forbid_it_is_retried(retriable: bool | None) -> None:
    failure = propose(StateType.FAILED, retriable=retriable)

    decision = decide([retry_failed_task_runs], transition(running(1, 1), failure))

    assert decision.status is OrchestrationStatus.REJECT


def test_a_failure_that_forbids_it_is_not_retried() -> None:
    failure = propose(StateType.FAILED, retriable=False)

    decision = decide([retry_failed_task_runs], transition(running(1, 1), failure))

    assert decision == Decision(OrchestrationStatus.ACCEPT, failure)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.FAILED])
def test_no_other_end_is_retried(entering: StateType) -> None:
    decision = decide([retry_failed_task_runs], transition(running(1, 1), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.RUNNING)])
def test_a_failure_of_a_run_that_is_not_running_is_not_retried(leaving: StateType | None) -> None:
    decision = decide([retry_failed_task_runs], transition(task_run(leaving, run_count=1, retries=3), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


def test_force_retries_nothing() -> None:
    assert retry_failed_task_runs not in policy.FORCED


# --- after how long ---


@pytest.mark.parametrize(
    ("delays", "waited"),
    [
        (None, [0, 0, 0]),
        ([], [0, 0, 0]),
        ([0], [0, 0, 0]),
        ([10], [10, 10, 10]),
        ([1.5, 20], [1.5, 20, 20]),
        ([1, 2, 3, 4], [1, 2, 3]),
        ([-5], [-5, -5, -5]),
    ],
)
def test_each_retry_has_its_own_delay_and_the_last_one_serves_for_the_rest(
    delays: list[float] | None, waited: list[float]
) -> None:
    decisions = [
        decide([retry_failed_task_runs], transition(running(run_count, 3, delays), FAILURE)) for run_count in (1, 2, 3)
    ]

    assert decisions == [awaiting_retry(seconds) for seconds in waited]


@pytest.mark.parametrize("delays", [None, [], [0]])
@pytest.mark.parametrize("retries", [None, 0, 1])
def test_jitter_of_no_delay_is_no_delay(delays: list[float] | None, retries: int | None) -> None:
    decision = decide([retry_failed_task_runs], transition(running(1, retries, delays, 0.5), FAILURE))

    assert decision == (awaiting_retry(0) if retries else Decision(OrchestrationStatus.ACCEPT, FAILURE))


@pytest.mark.parametrize("factor", [None, 0])
def test_without_jitter_the_delay_leaves_nothing_to_chance(factor: float | None) -> None:
    decisions = [
        decide([retry_failed_task_runs], transition(running(1, 1, [100], factor), FAILURE, chance=chance))
        for chance in (0.0, 0.5, 1.0)
    ]

    assert decisions == [awaiting_retry(100)] * 3


@pytest.mark.parametrize(
    ("factor", "lowest", "highest"), [(0.5, 100 * (1.5 - 0.870603), 150.0), (1.0, 100 * (2 - 1.584963), 200.0)]
)
def test_with_jitter_chance_picks_a_delay_from_the_lowest_to_the_highest(
    factor: float, lowest: float, highest: float
) -> None:
    assert jittered(100, factor, 0.0) == pytest.approx(lowest, rel=1e-4)
    assert jittered(100, factor, 1.0) == pytest.approx(highest, rel=1e-9)
    assert lowest < jittered(100, factor, 0.5) < highest


FACTORS = st.floats(0, 10)
MEANS = st.floats(0, 1e9)
CHANCES = st.floats(0, 1)


@given(mean=MEANS, factor=FACTORS, chance=CHANCES | st.sampled_from([0.0, 1.0]))
def test_a_jittered_delay_is_neither_negative_nor_above_its_bound(mean: float, factor: float, chance: float) -> None:
    delay = jittered(mean, factor, chance)

    assert 0 <= delay <= mean * (1 + factor) * (1 + 1e-9)


@pytest.mark.parametrize("factor", [20.0, 40.0, 1e308])
def test_a_great_factor_keeps_to_its_bound_too(factor: float) -> None:
    assert jittered(1.0, factor, 1.0) <= 1 + factor


@given(mean=MEANS, factor=FACTORS, chances=st.tuples(CHANCES, CHANCES))
def test_more_chance_is_no_shorter_delay(mean: float, factor: float, chances: tuple[float, float]) -> None:
    shorter, longer = [jittered(mean, factor, chance) for chance in sorted(chances)]

    assert shorter <= longer


# --- as clients meet it ---


async def test_a_client_sees_the_run_scheduled_again_until_its_retries_are_used_up(server: Serving) -> None:
    client = server.client
    retried = {"retries": 2, "retryDelaySeconds": [10, 20]}
    id = await create(client, "PENDING", empiricalPolicy=retried)
    seen = []

    for seconds in (10, 20, 0):
        await ask(client, id, "RUNNING")
        failed = await ask(client, id, "FAILED", data="why")
        seen.append((failed["status"], failed["created"], failed["state"]["name"], failed["state"]["data"]))
        server.clock.advance(seconds)

    assert seen == [
        ("REJECT", True, "AwaitingRetry", "why"),
        ("REJECT", True, "AwaitingRetry", "why"),
        ("ACCEPT", True, "Failed", "why"),
    ]
    assert (await client.ask("GetTaskRun", id=id))["runCount"] == 3
    assert await history(client, id) == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Failed",
    ]


async def test_a_retry_waits_for_its_time(server: Serving) -> None:
    client = server.client
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1, "retryDelaySeconds": [10]})
    failed = await ask(client, id, "FAILED")

    early = await ask(client, id, "RUNNING")
    server.clock.advance(10)
    in_time = await ask(client, id, "RUNNING")

    assert failed["state"]["details"]["scheduledTime"] == "2030-01-01T12:00:10.000000Z"
    assert (early["status"], early["delaySeconds"]) == ("WAIT", 10.0)
    assert (in_time["status"], in_time["state"]["name"]) == ("ACCEPT", "Retrying")


@pytest.mark.parametrize("in_flow_run", [True, False])
async def test_a_run_that_is_forced_to_fail_has_failed(client: Client, in_flow_run: bool) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1}, **fields)

    answer = await ask(client, id, "FAILED", force=True)

    assert (answer["status"], answer["state"]["type"]) == ("ACCEPT", "FAILED")


async def test_every_running_uses_up_a_try(client: Client) -> None:
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1})
    await ask(client, id, "RUNNING")

    answer = await ask(client, id, "FAILED")

    assert (answer["status"], answer["taskRun"]["runCount"]) == ("ACCEPT", 2)


async def test_a_run_that_starts_over_has_its_retries_again(client: Client) -> None:
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1})
    await ask(client, id, "RUNNING")
    await ask(client, id, "FAILED")
    await ask(client, id, "RUNNING")

    answer = await ask(client, id, "FAILED")

    assert (answer["status"], answer["state"]["name"]) == ("REJECT", "AwaitingRetry")


@pytest.mark.parametrize("seconds", [1e12, 1e300])
async def test_a_delay_beyond_the_calendar_ends_with_it(client: Client, seconds: float) -> None:
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1, "retryDelaySeconds": [seconds]})

    answer = await ask(client, id, "FAILED")

    assert answer["state"]["details"]["scheduledTime"] == "9999-12-31T23:59:59.999999Z"


async def test_a_delay_before_the_calendar_is_over_already(client: Client) -> None:
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1, "retryDelaySeconds": [-1e12]})
    await ask(client, id, "FAILED")

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["state"]["name"]) == ("ACCEPT", "Retrying")
