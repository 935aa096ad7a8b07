"""Which rules govern which run, in the order they are asked.

The order matters where it says so: a rule that ends the matter hides the ones after it.
"""

from collections.abc import Sequence

from resolvers.orchestration.rules.flow_runs.cancel_at_once_what_never_started import cancel_at_once_what_never_started
from resolvers.orchestration.rules.flow_runs.cancelling_ends_in_cancelled import cancelling_ends_in_cancelled
from resolvers.orchestration.rules.flow_runs.late_only_if_scheduled import late_only_if_scheduled
from resolvers.orchestration.rules.flow_runs.leave_terminal_flow_run_states import leave_terminal_flow_run_states
from resolvers.orchestration.rules.flow_runs.pause_flow_runs import pause_flow_runs
from resolvers.orchestration.rules.flow_runs.resume_flow_runs import resume_flow_runs
from resolvers.orchestration.rules.flow_runs.retry_failed_flow_runs import retry_failed_flow_runs
from resolvers.orchestration.rules.shared.copy_scheduled_time import copy_scheduled_time
from resolvers.orchestration.rules.shared.mark_unknown_results import mark_unknown_results
from resolvers.orchestration.rules.shared.prevent_pending import prevent_pending
from resolvers.orchestration.rules.shared.wait_for_scheduled_time import wait_for_scheduled_time
from resolvers.orchestration.rules.task_runs.fence_lost_leases import fence_lost_leases
from resolvers.orchestration.rules.task_runs.flow_run_must_be_running import flow_run_must_be_running
from resolvers.orchestration.rules.task_runs.insert_into_cache import insert_into_cache
from resolvers.orchestration.rules.task_runs.leave_terminal_states import leave_terminal_states
from resolvers.orchestration.rules.task_runs.rename_reruns import rename_reruns
from resolvers.orchestration.rules.task_runs.retrieve_from_cache import retrieve_from_cache
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import retry_failed_task_runs
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import take_concurrency_slots
from resolvers.orchestration.rules.task_runs.track_flow_run_count import track_flow_run_count
from resolvers.orchestration.transition import Rule

Policy = Sequence[Rule]

IN_FLOW_RUN: Policy = (
    fence_lost_leases,  # first, and in every policy: whoever lost a run has no say
    retrieve_from_cache,  # before the rules that would hold a run back: a kept result needs no run
    leave_terminal_states,  # before what asks for the count of runs, which it resets
    flow_run_must_be_running,
    take_concurrency_slots,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed_task_runs,
    rename_reruns,
    track_flow_run_count,
    insert_into_cache,
)
"""Task runs of a flow run."""

IN_BACKGROUND: Policy = (
    fence_lost_leases,
    prevent_pending,  # before the rules that would let a claim pass
    retrieve_from_cache,
    leave_terminal_states,
    take_concurrency_slots,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed_task_runs,
    rename_reruns,
    insert_into_cache,
)
"""Task runs without a flow run."""

FORCED: Policy = (fence_lost_leases, mark_unknown_results)
"""Task runs that are created in a flow run, and proposals with `force`: nothing is asked but who is asking."""

FLOW_RUN: Policy = (
    leave_terminal_flow_run_states,  # before the next, whose REJECT would hide its ABORT
    cancelling_ends_in_cancelled,
    cancel_at_once_what_never_started,
    prevent_pending,
    late_only_if_scheduled,
    pause_flow_runs,
    resume_flow_runs,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed_flow_runs,
)
"""Flow runs themselves."""

FORCED_FLOW_RUN: Policy = (mark_unknown_results,)
"""Flow runs that are created, and proposals for one with `force`."""


def task_run_policy(*, in_flow_run: bool, forced: bool) -> Policy:
    """The policy for a change of a task run's state."""
    if forced:
        return FORCED
    return IN_FLOW_RUN if in_flow_run else IN_BACKGROUND


def task_run_creation_policy(*, in_flow_run: bool) -> Policy:
    """The policy for a task run's first state: in a flow run any is taken, in the background the rules are asked."""
    return FORCED if in_flow_run else IN_BACKGROUND


def flow_run_policy(*, forced: bool) -> Policy:
    """The policy for a change of a flow run's state."""
    return FORCED_FLOW_RUN if forced else FLOW_RUN
