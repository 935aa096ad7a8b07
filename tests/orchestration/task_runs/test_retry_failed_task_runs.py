"""A failed task run is retried with the retries, delays and jitter of its policy."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.enums import StateType
from db.records import to_json
from db.runtime.timestamps import format_timestamp, seconds_between
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import add_jitter, retry_failed_task_runs
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.transitions import in_seconds, propose, task_run, transition
from tests.client import Client
from tests.clock import START
from tests.serving import RunningServer, run_server

FAILURE = propose(StateType.FAILED, name="OutOfDisk", message="No space left", data="[1]", cache_key="k")


def running(run_count: int, retries: int | None, delays: list[float] | None = None, jitter: float | None = None) -> Any:
    """Return a run that is RUNNING for the `run_count`th time, with this retry policy."""
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
    return Decision(OrchestrationStatus.REJECT, again, "The task run has retries left.")


@pytest.mark.parametrize(("run_count", "retries"), [(1, 1), (1, 2), (2, 2), (0, 0)])
def test_a_retry_is_scheduled_with_the_message_and_data_of_the_failure(run_count: int, retries: int) -> None:
    decision = decide([retry_failed_task_runs], transition(running(run_count, retries), FAILURE))

    assert decision == awaiting_retry(0)


@pytest.mark.parametrize(("run_count", "retries"), [(1, None), (1, 0), (1, -1), (0, -1), (2, 1), (3, 2)])
def test_a_run_without_retries_left_fails(run_count: int, retries: int | None) -> None:
    decision = decide([retry_failed_task_runs], transition(running(run_count, retries), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


@pytest.mark.parametrize("retriable", [True, None])
def test_a_failure_that_is_not_marked_unretriable_is_retried(retriable: bool | None) -> None:
    failure = propose(StateType.FAILED, retriable=retriable)

    decision = decide([retry_failed_task_runs], transition(running(1, 1), failure))

    assert decision.status is OrchestrationStatus.REJECT


def test_a_failure_marked_unretriable_is_not_retried() -> None:
    failure = propose(StateType.FAILED, retriable=False)

    decision = decide([retry_failed_task_runs], transition(running(1, 1), failure))

    assert decision == Decision(OrchestrationStatus.ACCEPT, failure)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.FAILED])
def test_no_other_state_is_retried(entering: StateType) -> None:
    decision = decide([retry_failed_task_runs], transition(running(1, 1), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.RUNNING)])
def test_a_run_that_is_not_running_is_not_retried(leaving: StateType | None) -> None:
    decision = decide([retry_failed_task_runs], transition(task_run(leaving, run_count=1, retries=3), FAILURE))

    assert decision == Decision(OrchestrationStatus.ACCEPT, FAILURE)


def test_the_forced_policy_does_not_retry() -> None:
    assert retry_failed_task_runs not in policy.FORCED


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
def test_each_retry_has_its_own_delay_and_the_last_delay_repeats(
    delays: list[float] | None, waited: list[float]
) -> None:
    decisions = [
        decide([retry_failed_task_runs], transition(running(run_count, 3, delays), FAILURE)) for run_count in (1, 2, 3)
    ]

    assert decisions == [awaiting_retry(seconds) for seconds in waited]


@pytest.mark.parametrize("delays", [None, [], [0]])
@pytest.mark.parametrize("retries", [None, 0, 1])
def test_jitter_does_not_change_a_zero_delay(delays: list[float] | None, retries: int | None) -> None:
    decision = decide([retry_failed_task_runs], transition(running(1, retries, delays, 0.5), FAILURE))

    assert decision == (awaiting_retry(0) if retries else Decision(OrchestrationStatus.ACCEPT, FAILURE))


@pytest.mark.parametrize("factor", [None, 0])
def test_without_jitter_the_delay_is_fixed(factor: float | None) -> None:
    decisions = [
        decide([retry_failed_task_runs], transition(running(1, 1, [100], factor), FAILURE, chance=chance))
        for chance in (0.0, 0.5, 1.0)
    ]

    assert decisions == [awaiting_retry(100)] * 3


@pytest.mark.parametrize(
    ("factor", "lowest", "highest"), [(0.5, 100 * (1.5 - 0.870603), 150.0), (1.0, 100 * (2 - 1.584963), 200.0)]
)
def test_jitter_picks_a_delay_between_its_lower_and_upper_bound(factor: float, lowest: float, highest: float) -> None:
    assert add_jitter(100, factor, 0.0) == pytest.approx(lowest, rel=1e-4)
    assert add_jitter(100, factor, 1.0) == pytest.approx(highest, rel=1e-9)
    assert lowest < add_jitter(100, factor, 0.5) < highest


FACTORS = st.floats(0, 10)
MEANS = st.floats(0, 1e9)
CHANCES = st.floats(0, 1)


@given(mean=MEANS, factor=FACTORS, chance=CHANCES | st.sampled_from([0.0, 1.0]))
def test_a_jittered_delay_is_neither_negative_nor_above_its_bound(mean: float, factor: float, chance: float) -> None:
    delay = add_jitter(mean, factor, chance)

    assert 0 <= delay <= mean * (1 + factor) * (1 + 1e-9)


@pytest.mark.parametrize("factor", [20.0, 40.0, 1e308])
def test_a_delay_with_a_large_factor_stays_within_its_bound(factor: float) -> None:
    assert add_jitter(1.0, factor, 1.0) <= 1 + factor


@given(mean=MEANS, factor=FACTORS, chances=st.tuples(CHANCES, CHANCES))
def test_a_larger_random_number_never_shortens_the_delay(
    mean: float, factor: float, chances: tuple[float, float]
) -> None:
    shorter, longer = [add_jitter(mean, factor, chance) for chance in sorted(chances)]

    assert shorter <= longer


async def test_a_client_sees_retries_until_they_are_exhausted(server: RunningServer) -> None:
    client = server.client
    retried = {"retries": 2, "retryDelaySeconds": [10, 20]}
    id = await create_task_run(client, "PENDING", retryPolicy=retried)
    seen = []

    for seconds in (10, 20, 0):
        await set_task_run_state(client, id, "RUNNING")
        failed = await set_task_run_state(client, id, "FAILED", data="why")
        seen.append((failed["status"], failed["stateCreated"], failed["state"]["name"], failed["state"]["data"]))
        server.clock.advance(seconds)

    assert seen == [
        ("REJECT", True, "AwaitingRetry", "why"),
        ("REJECT", True, "AwaitingRetry", "why"),
        ("ACCEPT", True, "Failed", "why"),
    ]
    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 3
    assert await read_state_names(client, id) == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Failed",
    ]


async def test_a_retry_waits_for_its_delay(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1, "retryDelaySeconds": [10]})
    failed = await set_task_run_state(client, id, "FAILED")

    early = await set_task_run_state(client, id, "RUNNING")
    server.clock.advance(10)
    in_time = await set_task_run_state(client, id, "RUNNING")

    assert failed["state"]["details"]["scheduledTime"] == "2030-01-01T12:00:10.000000Z"
    assert (early["status"], early["delaySeconds"]) == ("WAIT", 10.0)
    assert (in_time["status"], in_time["state"]["name"]) == ("ACCEPT", "Retrying")


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 62.939687), (1.0, 150.0)])
async def test_the_random_number_of_the_server_decides_the_jitter(
    database_url: str, tmp_path: Path, chance: float, seconds: float
) -> None:
    async with run_server(tmp_path, chance=chance, database_url=database_url) as server:
        policy = {"retries": 1, "retryDelaySeconds": [100], "retryJitterFactor": 0.5}
        id = await create_task_run(server.client, "RUNNING", retryPolicy=policy)

        failed = await set_task_run_state(server.client, id, "FAILED")

        delay = seconds_between(format_timestamp(START), failed["state"]["details"]["scheduledTime"])
        assert delay == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("in_flow_run", [True, False])
async def test_a_run_that_is_forced_to_fail_is_not_retried(client: Client, in_flow_run: bool) -> None:
    fields = {"flowRunId": await create_flow_run(client, "RUNNING")} if in_flow_run else {}
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1}, **fields)

    result = await set_task_run_state(client, id, "FAILED", force=True)

    assert (result["status"], result["state"]["type"]) == ("ACCEPT", "FAILED")


async def test_every_running_state_counts_as_an_attempt(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1})
    await set_task_run_state(client, id, "RUNNING")

    result = await set_task_run_state(client, id, "FAILED")

    assert (result["status"], result["taskRun"]["runCount"]) == ("ACCEPT", 2)


async def test_a_restarted_run_gets_its_retries_again(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1})
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, "FAILED")
    await set_task_run_state(client, id, "RUNNING")

    result = await set_task_run_state(client, id, "FAILED")

    assert (result["status"], result["state"]["name"]) == ("REJECT", "AwaitingRetry")


@pytest.mark.parametrize("seconds", [1e12, 1e300])
async def test_a_delay_beyond_the_calendar_is_capped_at_its_end(client: Client, seconds: float) -> None:
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1, "retryDelaySeconds": [seconds]})

    result = await set_task_run_state(client, id, "FAILED")

    assert result["state"]["details"]["scheduledTime"] == "9999-12-31T23:59:59.999999Z"


async def test_a_delay_before_the_calendar_is_due_at_once(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1, "retryDelaySeconds": [-1e12]})
    await set_task_run_state(client, id, "FAILED")

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["state"]["name"]) == ("ACCEPT", "Retrying")
