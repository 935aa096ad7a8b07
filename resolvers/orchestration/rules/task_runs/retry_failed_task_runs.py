"""Retries of a failed task run."""

from math import exp, log, log1p

from db.enums import StateType
from db.records import StateDetails, TaskRunRecord
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.RUNNING}, entering={StateType.FAILED})
def retry_failed_task_runs(transition: Transition) -> Verdict | None:
    """Set SCHEDULED (`AwaitingRetry`) instead of FAILED while the run has retries left.

    A failure with `retriable: false` is not retried.
    """
    assert isinstance(transition.run, TaskRunRecord)
    if transition.proposed.details.retriable is False:
        return None
    retry = next_retry(transition.run, transition.proposed, transition.now, transition.chance)
    return Reject("The task run has retries left.", retry) if retry else None


def next_retry(run: TaskRunRecord, failure: ProposedState, now: str, chance: float) -> ProposedState | None:
    """Return the state that schedules the next retry after this failure, or None when no retries are left."""
    policy = run.retry_policy
    if policy.retries is None or run.run_count > policy.retries:
        return None
    delay = base_delay(policy.retry_delay_seconds, run.run_count)
    if policy.retry_jitter_factor:
        delay = add_jitter(delay, policy.retry_jitter_factor, chance)
    details = StateDetails(scheduled_time=seconds_after(now, delay))
    return ProposedState(StateType.SCHEDULED, "AwaitingRetry", failure.message, failure.data, details)


def base_delay(delays: list[float] | None, run_count: int) -> float:
    """Return the delay after `run_count` runs: element `run_count` of `delays`, counted from 1, or the last element."""
    if not delays:
        return 0.0
    return delays[min(max(run_count, 1), len(delays)) - 1]


def add_jitter(mean: float, factor: float, chance: float) -> float:
    """Draw a delay from a truncated exponential distribution with a mean close to `mean`. All delays are in seconds.

    The maximum is `mean` × (1 + `factor`). The minimum increases as the maximum decreases, which keeps the mean close.
    `chance`, at least 0 and below 1, selects the value.
    """
    if mean <= 0:
        return mean
    max_delay = mean * (1 + factor)
    k = 1 + factor
    min_delay = 0.0 if k >= 50 else max(0.0, mean * (k - log(2**k - 1) / log(2)))
    min_probability, max_probability = (1 - exp(-bound / mean) for bound in (min_delay, max_delay))
    # Rounding could produce a probability of 1, where the logarithm is undefined, or a delay above the maximum.
    probability = min(min_probability + chance * (max_probability - min_probability), 1 - 2**-53)
    return min(-mean * log1p(-probability), max_delay)
