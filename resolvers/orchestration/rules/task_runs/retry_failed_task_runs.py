"""A failed task run is tried again, as often and after as long as its policy says."""

from math import exp, log, log1p

from db.enums import StateType
from db.records import StateDetails, TaskRunRecord
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.RUNNING}, entering={StateType.FAILED})
def retry_failed_task_runs(transition: Transition) -> Verdict | None:
    """Schedule the run again in the place of FAILED, while it has retries left and the failure does not forbid it."""
    assert isinstance(transition.run, TaskRunRecord)
    if transition.proposed.details.retriable is False:
        return None
    again = next_try(transition.run, transition.proposed, transition.now, transition.chance)
    return Reject("The run has retries left.", again) if again else None


def next_try(run: TaskRunRecord, failure: ProposedState, now: str, chance: float) -> ProposedState | None:
    """The state in which the run awaits its next try after this failure; None where it has no retries left."""
    policy = run.empirical_policy
    if policy.retries is None or run.run_count > policy.retries:
        return None
    delay = base_delay(policy.retry_delay_seconds, run.run_count)
    if policy.retry_jitter_factor:
        delay = jittered(delay, policy.retry_jitter_factor, chance)
    details = StateDetails(scheduled_time=seconds_after(now, delay))
    return ProposedState(StateType.SCHEDULED, "AwaitingRetry", failure.message, failure.data, details)


def base_delay(delays: list[float] | None, run_count: int) -> float:
    """The delay before the next run, after `run_count` runs: its own one, or else the last."""
    if not delays:
        return 0.0
    return delays[min(max(run_count, 1), len(delays)) - 1]


def jittered(mean: float, factor: float, chance: float) -> float:
    """A delay drawn from an exponential distribution around `mean`, confined to at most `mean` × (1 + `factor`).

    The lower bound rises as the upper one falls, so that the mean stays near. `chance` from 0 to 1 picks the value.
    """
    if mean <= 0:
        return mean
    highest = mean * (1 + factor)
    k = 1 + factor
    lowest = 0.0 if k >= 50 else max(0.0, mean * (k - log(2**k - 1) / log(2)))
    at_lowest, at_highest = (1 - exp(-bound / mean) for bound in (lowest, highest))
    # Rounding may bring the value to 1, which has no logarithm, or past the bound.
    drawn = min(at_lowest + chance * (at_highest - at_lowest), 1 - 2**-53)
    return min(-mean * log1p(-drawn), highest)
