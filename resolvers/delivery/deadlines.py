"""Runs that have passed a deadline: those that have expired, and those that have been RUNNING for too long.

Both end by the server's clock, whatever their workers do. Source: docs/queues.md.
"""

from collections.abc import Sequence

from db.connection import Connection
from db.enums import StateType
from db.records import TaskRunRecord
from db.statements import run_deadlines, task_runs
from db.statements.task_runs import TaskRunFacts
from resolvers.batch_size import limit_read_size
from resolvers.delivery.lease_recovery import is_unconfirmed, recover_unconfirmed
from resolvers.orchestration.rules.task_runs.expire_unstarted_runs import expired_state
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import next_retry
from resolvers.orchestration.transition import ProposedState
from resolvers.transitions.batch import TaskRunTransitions


def cancel_expired_runs(connection: Connection, sizes: Sequence[int]) -> list[int | Exception]:
    """Set runs that have expired to CANCELLED (`Expired`). Their leases end. Return the number of runs.

    One sweep serves all callers. It ends at most the smallest of `sizes`, and each caller receives its result.
    """
    size = min(sizes)
    with limit_read_size(connection, size):
        expired = run_deadlines.expired_task_runs(connection, size)
        facts_by_id, transitions = _load(connection, expired)
        for facts in facts_by_id.values():
            _set_state(transitions, facts, expired_state(facts.run.expires_at or ""))
        _write(connection, transitions)
    return [len(expired)] * len(sizes)


def end_timed_out_runs(connection: Connection, sizes: Sequence[int]) -> list[int | Exception]:
    """End runs whose time limit has passed, and their leases. Return the number of runs, as `cancel_expired_runs` does.

    RUNNING is retried if it has retries left, and otherwise becomes FAILED (`TimedOut`). CANCELLING becomes CANCELLED. A
    run whose start no worker has confirmed is requeued, as when its lease expires.
    """
    size = min(sizes)
    with limit_read_size(connection, size):
        timed_out = run_deadlines.timed_out_task_runs(connection, size)
        facts_by_id, transitions = _load(connection, timed_out)
        recover_unconfirmed(connection, transitions, [each for each in facts_by_id.values() if is_unconfirmed(each)])
        for facts in facts_by_id.values():
            if facts.run.state_type in run_deadlines.TIMED_STATES:
                _set_state(transitions, facts, _state_after_time_limit(facts.run, transitions))
        _write(connection, transitions)
    return [len(timed_out)] * len(sizes)


def _state_after_time_limit(run: TaskRunRecord, transitions: TaskRunTransitions) -> ProposedState:
    if run.state_type is StateType.CANCELLING:
        return ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name)
    message = f"The task run was RUNNING for longer than its time limit of {run.timeout_seconds:,g} seconds."
    timed_out = ProposedState(StateType.FAILED, "TimedOut", message)
    return next_retry(run, timed_out, transitions.now, transitions.chance()) or timed_out


def _load(connection: Connection, ids: Sequence[str]) -> tuple[dict[str, TaskRunFacts], TaskRunTransitions]:
    facts_by_id = task_runs.task_run_facts(connection, [(id, None) for id in ids], include_large_columns=False)
    return facts_by_id, TaskRunTransitions.load(connection, [facts.run for facts in facts_by_id.values()], [])


def _set_state(transitions: TaskRunTransitions, facts: TaskRunFacts, state: ProposedState) -> None:
    """Set a state without applying rules, because no client proposed it."""
    transitions.propose((), facts.run, state, flow_run=None, entry=facts.queue_entry, lease_id=None)


def _write(connection: Connection, transitions: TaskRunTransitions) -> None:
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)
