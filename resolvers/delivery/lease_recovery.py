"""Takes runs back from workers that are lost, or that hand them back: what each becomes depends on how far it got."""

import random
from collections import Counter
from collections.abc import Sequence

from db.connection import Connection
from db.enums import StateType
from db.records import StateDetails
from db.runtime.timestamps import seconds_after
from db.statements import queue, task_runs
from db.statements.task_runs import TaskRunFacts
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import next_try
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.entries import holds
from resolvers.transitions.batch import TaskRunMoves

REDELIVERY_DELAYS = (0.0, 5.0, 30.0, 120.0)
"""Seconds before a run that was lost with its worker is due again: after the first time, the second, and so on."""

MOST_LAPSES = len(REDELIVERY_DELAYS) + 1
"""How many workers in a row may be lost with the run in hand, before it is taken for the cause itself."""


def take_back_from_lost_workers(connection: Connection, task_run_ids: Sequence[str]) -> Counter[str]:
    """End the leases of these runs, whose workers are lost; how many of them there were of which kind.

    The kinds: `unacknowledged`, nobody had taken the run over; `crashed`, it has CRASHED; `lapsed`, all others.

    What nobody acknowledged is due again at once. Else SCHEDULED is due again, after a while that grows; PENDING becomes
    SCHEDULED; RUNNING is tried again if it has retries left, else it has CRASHED; CANCELLING is CANCELLED. After too many
    lost workers in a row the run has CRASHED.
    """
    facts_by_id = task_runs.task_run_facts(connection, [(id, None) for id in task_run_ids], whole=False)
    moves = TaskRunMoves.load(connection, [facts.run for facts in facts_by_id.values()], [])
    kinds = Counter[str]()
    for facts in facts_by_id.values():
        entry = facts.queue_entry
        if entry is None or entry.lease_expires_at is None or entry.lease_expires_at > connection.now:
            # Another server was faster, or the worker was: it is not lost.
            continue
        if entry.is_acknowledged:
            _take_back_after_lapse(moves, facts)
            kinds["crashed" if facts.run.state_type is StateType.CRASHED else "lapsed"] += 1
        else:
            # Nobody began with it: that says nothing about the run, only about who was to take it.
            _take_back(moves, facts, connection.now)
            kinds["unacknowledged"] += 1
    _write(connection, moves)
    return kinds


def take_back_from_lost_connections(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """Put back runs that workers had in hand, and had not taken over yet, when their connections were lost; whether each
    was still under its lease.

    It may be the run that its workers die of, so that it counts like the loss of a worker that had taken it over.
    """
    runs = queue.runs_by_lease(connection, lease_ids)
    facts_by_id = task_runs.task_run_facts(connection, [(run_id, None) for run_id in runs.values()], whole=False)
    moves = TaskRunMoves.load(connection, [facts.run for facts in facts_by_id.values()], [])
    put_back: set[str] = set()
    for lease_id, run_id in runs.items():
        facts = facts_by_id.get(run_id)
        entry = facts.queue_entry if facts else None
        # One that has run out is the sweep's.
        is_held = entry is not None and holds(entry, lease_id) and (entry.lease_expires_at or "") > connection.now
        if facts and entry and is_held and not entry.is_acknowledged:
            _take_back_after_lapse(moves, facts)
            put_back.add(lease_id)
    _write(connection, moves)
    return [lease_id in put_back for lease_id in lease_ids]


def hand_back(connection: Connection, runs: Sequence[tuple[TaskRunFacts, float]]) -> None:
    """End the leases of these runs, which their workers hand back unfinished; each due again after so many seconds."""
    moves = TaskRunMoves.load(connection, [facts.run for facts, _ in runs], [])
    for facts, delay in runs:
        _take_back(moves, facts, seconds_after(connection.now, delay), is_lost=False)
    _write(connection, moves)


def _take_back_after_lapse(moves: TaskRunMoves, facts: TaskRunFacts) -> None:
    """Take the run back for later, the later the more workers were lost with it; after too many it has CRASHED."""
    entry = facts.queue_entry
    assert entry is not None
    entry.lapses += 1
    if entry.lapses >= MOST_LAPSES and facts.run.state_type in (StateType.SCHEDULED, StateType.PENDING):
        message = f"{entry.lapses} deliveries in a row ended with a lost worker."
        _move(moves, facts, ProposedState(StateType.CRASHED, "Undeliverable", message))
        return
    delay = REDELIVERY_DELAYS[min(entry.lapses, len(REDELIVERY_DELAYS)) - 1]
    _take_back(moves, facts, seconds_after(moves.now, delay))


def _take_back(moves: TaskRunMoves, facts: TaskRunFacts, due_at: str, *, is_lost: bool = True) -> None:
    entry, type = facts.queue_entry, facts.run.state_type
    assert entry is not None
    again = ProposedState(StateType.SCHEDULED, "AwaitingRedelivery", details=StateDetails(scheduled_time=due_at))
    if type is StateType.SCHEDULED:
        moves.placements.put_back(entry, max(due_at, facts.run.next_scheduled_start_time or due_at))
    elif type is StateType.PENDING or (type is StateType.RUNNING and not is_lost):
        _move(moves, facts, again)
    elif type is StateType.RUNNING:
        lost = ProposedState(StateType.CRASHED, "WorkerLost", "The worker's lease ran out while it ran.")
        _move(moves, facts, next_try(facts.run, lost, moves.now, random.random()) or lost)  # noqa: S311
    elif type is StateType.CANCELLING:
        _move(moves, facts, ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name))
    else:
        moves.placements.drop(entry)


def _move(moves: TaskRunMoves, facts: TaskRunFacts, state: ProposedState) -> None:
    """Give the run a state that nobody proposed, so that no rule is asked."""
    moves.propose((), facts.run, state, flow_run=None, entry=facts.queue_entry, lease_id=None)


def _write(connection: Connection, moves: TaskRunMoves) -> None:
    moves.write_changes(connection)
    task_runs.update_task_run_progress(connection, moves.moved)
