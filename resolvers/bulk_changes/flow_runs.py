"""Bulk cancellation of flow runs."""

from collections.abc import Sequence

from db.connection import Connection
from db.records import FlowRunRecord
from db.statements import flow_runs
from db.statements.flow_runs import FLOW_RUNS, NO_COLUMNS
from resolvers.bulk_changes.pages import BulkChange, BulkChangeResult, Rejection, find_page
from resolvers.bulk_changes.verbs import FlowRunCancellation
from resolvers.errors import BadInput
from resolvers.transitions.set_states import decide_flow_run_state, write_flow_run_states

FlowRunBulkChange = BulkChange[FlowRunCancellation]


def cancel_flow_runs(
    connection: Connection, changes: Sequence[FlowRunBulkChange]
) -> list[BulkChangeResult | Exception]:
    """Cancel the next page of flow runs that match the filter of each change.

    Task runs that represent a subflow receive the state of the subflow. Waits for rows that other transactions have
    locked, as every write does. Returns BadInput for a filter without a condition.
    """
    results: list[BulkChangeResult | Exception] = []
    for change in changes:
        try:
            results.append(_apply(connection, change))
        except BadInput as refusal:
            results.append(refusal)
    return results


def preview_cancellation(connection: Connection, change: FlowRunBulkChange) -> BulkChangeResult:
    """Return the result of `cancel_flow_runs` without writing or locking anything.

    Raises BadInput for a filter without a condition.
    """
    result, _ = _decide(connection, change, lock=False)
    return result


def _apply(connection: Connection, change: FlowRunBulkChange) -> BulkChangeResult:
    result, changed_runs = _decide(connection, change, lock=True)
    write_flow_run_states(connection, changed_runs)
    return result


def _decide(
    connection: Connection, change: FlowRunBulkChange, *, lock: bool
) -> tuple[BulkChangeResult, list[FlowRunRecord]]:
    """Return the result, and the runs that have entered another state, in memory."""
    page = find_page(connection, change, FLOW_RUNS, NO_COLUMNS, change.verb.states, lock=lock)
    runs = flow_runs.flow_runs_to_change(connection, page.ids) if page.ids else {}
    # Without locks, another transaction may have changed or deleted runs since the page was read.
    examined = [runs[id] for id in page.ids if id in runs and runs[id].state_type in change.verb.states]
    changed_runs: list[FlowRunRecord] = []
    rejections: list[Rejection] = []
    for run in examined:
        decision, state = decide_flow_run_state(run, change.verb.propose(run), connection.now, actor=change.actor)
        if state is None:
            rejections.append(Rejection(run.id, decision.reason or "", decision.status))
        else:
            changed_runs.append(run)
    return page.result(len(examined), rejections), changed_runs
