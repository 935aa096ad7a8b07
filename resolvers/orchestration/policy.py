"""Policies: the rules for each kind of run, in the order in which they are applied.

A rule that rejects, aborts or waits hides the rules after it. Comments give the reason where the order matters.
"""

from collections.abc import Sequence

from resolvers.orchestration.rules.flow_runs.cancel_scheduled_flow_runs_immediately import (
    cancel_scheduled_flow_runs_immediately,
)
from resolvers.orchestration.rules.flow_runs.late_only_if_scheduled import late_only_if_scheduled
from resolvers.orchestration.rules.flow_runs.leave_terminal_flow_run_states import leave_terminal_flow_run_states
from resolvers.orchestration.rules.flow_runs.pause_flow_runs import pause_flow_runs
from resolvers.orchestration.rules.flow_runs.restrict_cancelling_to_cancelled import restrict_cancelling_to_cancelled
from resolvers.orchestration.rules.flow_runs.resume_flow_runs import resume_flow_runs
from resolvers.orchestration.rules.flow_runs.retry_failed_flow_runs import retry_failed_flow_runs
from resolvers.orchestration.rules.shared.copy_scheduled_time import copy_scheduled_time
from resolvers.orchestration.rules.shared.mark_unknown_results import mark_unknown_results
from resolvers.orchestration.rules.shared.prevent_pending import prevent_pending
from resolvers.orchestration.rules.shared.wait_for_scheduled_time import wait_for_scheduled_time
from resolvers.orchestration.rules.task_runs.cancel_unheld_task_runs_immediately import (
    cancel_unheld_task_runs_immediately,
)
from resolvers.orchestration.rules.task_runs.expire_unstarted_runs import expire_unstarted_runs
from resolvers.orchestration.rules.task_runs.fence_lost_leases import fence_lost_leases
from resolvers.orchestration.rules.task_runs.flow_run_must_be_running import flow_run_must_be_running
from resolvers.orchestration.rules.task_runs.insert_into_cache import insert_into_cache
from resolvers.orchestration.rules.task_runs.keep_unique_keys import keep_unique_keys
from resolvers.orchestration.rules.task_runs.leave_terminal_states import leave_terminal_states
from resolvers.orchestration.rules.task_runs.reject_running_after_cancellation import (
    reject_running_after_cancellation,
)
from resolvers.orchestration.rules.task_runs.rename_reruns import rename_reruns
from resolvers.orchestration.rules.task_runs.retrieve_from_cache import retrieve_from_cache
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import retry_failed_task_runs
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import take_concurrency_slots
from resolvers.orchestration.rules.task_runs.track_flow_run_count import track_flow_run_count
from resolvers.orchestration.transition import Rule

Policy = Sequence[Rule]

IN_FLOW_RUN: Policy = (
    fence_lost_leases,  # first, in every policy: a worker without its lease changes nothing
    retrieve_from_cache,  # before the rules that delay a run: a cached result needs no execution
    leave_terminal_states,  # before the rules that read the run count, which it resets
    keep_unique_keys,
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
    prevent_pending,  # before the rules that accept or amend a claim
    reject_running_after_cancellation,  # before the cache, whose result would complete a cancelled run
    cancel_unheld_task_runs_immediately,
    expire_unstarted_runs,  # before the cache: an expired run has no result
    retrieve_from_cache,
    leave_terminal_states,
    keep_unique_keys,
    take_concurrency_slots,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed_task_runs,
    rename_reruns,
    insert_into_cache,
)
"""Task runs without a flow run."""

FORCED: Policy = (fence_lost_leases, keep_unique_keys, mark_unknown_results)
"""Task runs that are created in a flow run, and proposals with `force`: only the lease and the unique key are checked."""

FLOW_RUN: Policy = (
    leave_terminal_flow_run_states,  # before the next rule, whose REJECT would hide its ABORT
    restrict_cancelling_to_cancelled,
    cancel_scheduled_flow_runs_immediately,
    prevent_pending,
    late_only_if_scheduled,
    pause_flow_runs,
    resume_flow_runs,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed_flow_runs,
)
"""Flow runs."""

FORCED_FLOW_RUN: Policy = (mark_unknown_results,)
"""Flow runs that are created, and proposals for flow runs with `force`."""


def task_run_policy(*, in_flow_run: bool, forced: bool) -> Policy:
    """Return the policy for a state change of a task run."""
    if forced:
        return FORCED
    return IN_FLOW_RUN if in_flow_run else IN_BACKGROUND


def task_run_creation_policy(*, in_flow_run: bool) -> Policy:
    """Return the policy for the first state of a task run. Rules apply only to background runs."""
    return FORCED if in_flow_run else IN_BACKGROUND


def flow_run_policy(*, forced: bool) -> Policy:
    """Return the policy for a state change of a flow run."""
    return FORCED_FLOW_RUN if forced else FLOW_RUN
