"""Which faults explain that a run was executed again, or that an execution began late.

The client promises at-least-once execution: a second execution of a run needs a reason. The reasons are tight: an
interruption shorter than a third of the lease, a lost response, or a cut connection explains none.
"""

from chaos.evidence import DATABASE, Evidence, Execution, Fault

PLANNED_OUTCOMES = frozenset({"PlannedFailure", "Retry", "Snooze"})
"""Outcomes after which a run is executed again by plan."""

STOPPED = frozenset({"CancelledError", "Cancelled", "Terminated"})

KILLS = frozenset({"worker killed", "worker killed with its children", "child killed"})

DEADLY = KILLS | {"worker drained"}
"""Kinds of faults that end processes. A drained worker kills what does not stop."""

INTERRUPTIONS = frozenset(
    {
        "worker suspended",
        "coordinator suspended",
        "server suspended",
        "connections refused",
        "server killed",
        "server stopped",
        "PostgreSQL crashed",
    }
)
"""Kinds of faults that explain a repetition if they last so long that the lease may expire.

A server that is killed or stopped leaves started runs with their workers, also before their leases are confirmed.
"""

LATE_SECONDS = 3.0
"""Maximum time from the claim of a run to its first line: a busy machine may have to start a process for it."""


def explanation(evidence: Evidence, first: Execution, second_begun_at: float) -> str | None:
    """Return why a run whose execution `first` had begun was executed again from `second_begun_at` on; None: no reason."""
    if first.outcome in PLANNED_OUTCOMES:
        return first.outcome
    if first.reason == "timeout":
        return "timeout"
    for fault in evidence.faults:
        is_between = fault.start <= second_begun_at and fault.end >= first.begun_at - LATE_SECONDS
        if is_between and _explains(evidence, fault, first):
            return fault.kind
    return None


def death_explanation(evidence: Evidence, execution: Execution) -> str | None:
    """Return the fault that ended the process of an execution; None if there was none."""
    for fault in evidence.faults:
        is_target = fault.target in (execution.worker, f"pid {execution.pid}")
        if fault.kind in DEADLY and is_target and fault.end >= execution.begun_at:
            return fault.kind
    return None


def _explains(evidence: Evidence, fault: Fault, first: Execution) -> bool:
    if fault.target not in (
        first.worker,
        f"pid {first.pid}",
        evidence.servers[first.worker],
        DATABASE,
    ):
        return False
    if fault.kind == "worker drained":
        # A worker that exits with 0 has reported what ended in time, and released the rest.
        return fault.exit_code != 0 or first.outcome is None or first.outcome in STOPPED
    # After a renewal every third of the lease, two thirds of it are left in the worst case.
    may_expire = fault.end - fault.start >= evidence.options.lease_seconds / 3
    return fault.kind in KILLS or (fault.kind in INTERRUPTIONS and may_expire)
