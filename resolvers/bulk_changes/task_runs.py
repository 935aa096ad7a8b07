"""Bulk changes of task runs: decides what a verb proposes for each run of a page, and writes the outcome."""

from collections.abc import Sequence

from db.connection import Connection
from db.statements import task_runs
from db.statements.task_runs import NO_COLUMNS, TASK_RUNS, TaskRunFacts
from resolvers.bulk_changes.pages import BulkChange, BulkChangeResult, Rejection, find_page
from resolvers.bulk_changes.verbs import NotApplicable, TaskRunVerb
from resolvers.errors import BadInput, QueueFull
from resolvers.orchestration.policy import task_run_policy
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.entries import entered_side
from resolvers.transitions.batch import TaskRunTransitions
from resolvers.transitions.set_states import flow_run_facts

TaskRunBulkChange = BulkChange[TaskRunVerb]

Proposals = Sequence[tuple[TaskRunFacts, ProposedState | NotApplicable]]
"""The facts of each examined run, and what the verb proposes for it."""


def change_task_runs(
    connection: Connection, changes: Sequence[TaskRunBulkChange], capacity: QueueCapacity
) -> list[BulkChangeResult | Exception]:
    """Apply each change to the next page of runs that match its filter.

    Waits for rows that other transactions have locked, as every write does: a change skips no matching run. Returns
    BadInput for a filter without a condition.
    """
    results: list[BulkChangeResult | Exception] = []
    for change in changes:
        try:
            results.append(_apply(connection, change, capacity))
        except BadInput as refusal:
            results.append(refusal)
    return results


def preview_change(connection: Connection, change: TaskRunBulkChange, capacity: QueueCapacity) -> BulkChangeResult:
    """Return the result of `change_task_runs` without writing or locking anything.

    Counts the waiting runs of each queue again. Raises BadInput for a filter without a condition.
    """
    page = find_page(connection, change, TASK_RUNS, NO_COLUMNS, change.verb.states, lock=False)
    facts_by_id = task_runs.read_task_run_facts(connection, page.ids)
    # Another transaction may have changed or deleted runs since the page was read.
    facts = [facts_by_id[id] for id in page.ids if id in facts_by_id]
    facts = [each for each in facts if each.run.state_type in change.verb.states]
    proposals = _propose(change, facts, connection.now)
    transitions = _load(connection, proposals, capacity.without_cached_counts(), lock=False)
    return page.result(len(facts), _decide(transitions, change, proposals))


def _apply(connection: Connection, change: TaskRunBulkChange, capacity: QueueCapacity) -> BulkChangeResult:
    page = find_page(connection, change, TASK_RUNS, NO_COLUMNS, change.verb.states, lock=True)
    if not page.ids:
        return page.result(0, [])
    facts_by_id = task_runs.task_run_facts(connection, [(id, None) for id in page.ids], include_large_columns=False)
    facts = [facts_by_id[id] for id in page.ids]
    proposals = _propose(change, facts, connection.now)
    transitions = _load(connection, proposals, capacity, lock=True)
    expiring_ids = {each.run.id for each in facts if each.run.expires_at is not None}
    rejections = _decide(transitions, change, proposals)
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)
    if change.verb.clears_expiry:
        task_runs.clear_expiry(connection, [run.id for run in transitions.changed_runs if run.id in expiring_ids])
    return page.result(len(facts), rejections)


def _propose(change: TaskRunBulkChange, facts: Sequence[TaskRunFacts], now: str) -> Proposals:
    return [(each, change.verb.propose(each.run, now, has_worker=_has_worker(each, now))) for each in facts]


def _has_worker(facts: TaskRunFacts, now: str) -> bool:
    """Return whether a worker has acknowledged the run's lease, and the lease has not expired."""
    entry = facts.queue_entry
    return entry is not None and entry.is_acknowledged and (entry.lease_expires_at or "") > now


def _load(connection: Connection, proposals: Proposals, capacity: QueueCapacity, *, lock: bool) -> TaskRunTransitions:
    """Load what the decisions about these runs share: slots, and the remaining capacity of the queues."""
    proposed = [(facts, state) for facts, state in proposals if isinstance(state, ProposedState)]
    transitions = TaskRunTransitions.load(
        connection, [facts.run for facts, _ in proposed], [state for _, state in proposed], lock=lock
    )
    sides = [entered_side(facts.run, state, facts.queue_entry) for facts, state in proposed]
    transitions.reservation = capacity.begin_reservation(connection, filter(None, sides), argument="filter")
    return transitions


def _decide(transitions: TaskRunTransitions, change: TaskRunBulkChange, proposals: Proposals) -> list[Rejection]:
    """Decide the proposals in their order, and return the runs that keep their state."""
    decided = [_decide_one(transitions, change, *each) for each in proposals]
    return [each for each in decided if each is not None]


def _decide_one(
    transitions: TaskRunTransitions,
    change: TaskRunBulkChange,
    facts: TaskRunFacts,
    proposed: ProposedState | NotApplicable,
) -> Rejection | None:
    run = facts.run
    if isinstance(proposed, NotApplicable):
        return Rejection(run.id, proposed.reason)
    if change.verb.clears_expiry:
        # Before the run is queued, because its queue entry has a copy.
        run.expires_at = None
    policy = task_run_policy(in_flow_run=run.flow_run_id is not None, forced=False)
    try:
        decision, state = transitions.propose(
            policy,
            run,
            proposed,
            flow_run=flow_run_facts(facts),
            entry=facts.queue_entry,
            lease_id=None,
            actor=change.actor,
        )
    except QueueFull as refusal:
        return Rejection(run.id, str(refusal), refusal=refusal)
    return Rejection(run.id, decision.reason or "", decision.status) if state is None else None
