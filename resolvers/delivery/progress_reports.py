"""Reports of workers about the progress of their task runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import TaskRunProgress
from db.statements import queue, reported_progress, task_runs
from resolvers.delivery.leases import LeaseResult, acknowledge_leases


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """How far a worker has come with the run under its lease. `total` is None when the worker does not know it."""

    lease_id: str
    done: float
    total: float | None
    message: str | None


def report_progress(connection: Connection, reports: Sequence[ProgressReport]) -> list[LeaseResult | Exception]:
    """Replace the progress of the runs under these leases. The last report of a lease counts.

    Naming a lease acknowledges it, as a state change does; the expiry of an acknowledged lease does not change. A report
    under a lease that is no longer held is LOST and changes nothing.
    """
    lease_ids = [each.lease_id for each in reports]
    run_ids = queue.task_run_ids_by_lease(connection, lease_ids)
    # Runs are locked before their queue entries.
    task_runs.lock_task_runs(connection, sorted(set(run_ids.values())), lease_ids)
    results = acknowledge_leases(connection, lease_ids)
    held = {each.lease_id for each in results if isinstance(each, LeaseResult) and each.is_held}
    progress = {
        run_ids[each.lease_id]: TaskRunProgress(each.done, each.total, each.message, connection.now)
        for each in reports
        if each.lease_id in held and each.lease_id in run_ids
    }
    reported_progress.write_progress(connection, progress)
    return results
