"""Which rules govern which run, in the order they are asked.

The order matters where it says so: a rule that ends the matter hides the ones after it.
"""

from collections.abc import Sequence

from resolvers.orchestration.rules.copy_scheduled_time import copy_scheduled_time
from resolvers.orchestration.rules.fence_lost_leases import fence_lost_leases
from resolvers.orchestration.rules.flow_run_must_be_running import flow_run_must_be_running
from resolvers.orchestration.rules.leave_terminal_states import leave_terminal_states
from resolvers.orchestration.rules.prevent_pending import prevent_pending
from resolvers.orchestration.rules.wait_for_scheduled_time import wait_for_scheduled_time
from resolvers.orchestration.transition import Rule

Policy = Sequence[Rule]

IN_FLOW_RUN: Policy = (
    fence_lost_leases,  # first, and in every policy: whoever lost a run has no say
    leave_terminal_states,
    flow_run_must_be_running,
    copy_scheduled_time,
    wait_for_scheduled_time,
)
"""Task runs of a flow run."""

IN_BACKGROUND: Policy = (
    fence_lost_leases,
    prevent_pending,  # before the rules that would let a claim pass
    leave_terminal_states,
    copy_scheduled_time,
    wait_for_scheduled_time,
)
"""Task runs without a flow run."""

FORCED: Policy = (fence_lost_leases,)
"""Runs that are created in a flow run, and proposals with `force`: nothing is asked but who is asking."""

FLOW_RUN: Policy = (prevent_pending, copy_scheduled_time, wait_for_scheduled_time)
"""Flow runs themselves."""


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
    return () if forced else FLOW_RUN
