"""Invariants of the queue after any sequence of operations, checked with random sequences."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from db import migrations
from db.connection import SQLiteConnection
from db.enums import TERMINAL, StateType
from db.outages import MAX_SILENCE_SECONDS, Outage
from db.runtime.timestamps import format_timestamp
from db.statements.due_entries import due_entries
from db.tables import CAN_EXPIRE
from resolvers.bulk_changes.pages import BulkChange
from resolvers.bulk_changes.task_runs import change_task_runs, preview_change
from resolvers.bulk_changes.verbs import Cancellation, Rescheduling, Retry, TaskRunVerb
from resolvers.concurrency_limits import LimitSetting, delete_limits, set_limits
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from resolvers.delivery.deadlines import cancel_expired_runs, end_timed_out_runs
from resolvers.delivery.heartbeats import OutageRecovery
from resolvers.delivery.lease_recovery import recover_lost_connections, release_unconfirmed
from resolvers.delivery.lease_sweeper import MAX_SWEEP_SIZE, sweep_leases
from resolvers.delivery.leases import (
    Release,
    Renewal,
    acknowledge_leases,
    finish_deliveries,
    release_all_unacknowledged,
    release_leases,
    release_unacknowledged,
    renew_leases,
)
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.pauses import pause_task_queues, resume_task_queues
from resolvers.queue.slot_waiters import wake_overdue_waiters
from resolvers.task_run_updates import TaskRunUpdate, update_task_runs
from resolvers.task_runs import NewTaskRun, create_task_runs, delete_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.transitions import propose
from tests.clock import START

KEYS = ("a", "b")
LIMITED_TAGS = ("x", "y")
CACHE_KEY = "k"
PREFETCH = 3
TABLES = ("task_run", "task_run_state", "queue_entry", "concurrency_limit", "concurrency_slot", "paused_queue")
CAN_RUN_OUT = "state_type IN ('RUNNING', 'CANCELLING')"
FINISH_ROUNDS = 400
"""Number of claims within which the remaining runs of one example must have ended."""

with TemporaryDirectory() as folder:
    migrations.upgrade_sqlite(Path(folder) / "empty.db")
    with closing(sqlite3.connect(Path(folder) / "empty.db")) as database:
        EMPTY = database.serialize()

LEASE_OPERATIONS: dict[str, tuple[Callable[..., list[Any]], Callable[[str], Any]]] = {
    "acknowledge": (acknowledge_leases, lambda lease: lease),
    "renew": (renew_leases, lambda lease: Renewal(lease, 60.0)),
    "release": (release_leases, lambda lease: Release(lease, 5.0)),
    "release unacknowledged": (release_unacknowledged, lambda lease: lease),
    "release unconfirmed": (release_unconfirmed, lambda lease: lease),
    "lose the connection": (recover_lost_connections, lambda lease: lease),
    "finish": (finish_deliveries, lambda lease: lease),
}


VERBS: list[TaskRunVerb] = [
    Cancellation("Stop"),
    Retry(5.0),
    Rescheduling(format_timestamp(START + timedelta(seconds=60))),
]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.raw = sqlite3.connect(":memory:", isolation_level=None)
        self.raw.deserialize(EMPTY)
        self.raw.execute("PRAGMA foreign_keys = ON")
        self.now = START
        self.number = 0
        self.leases: list[tuple[str, str]] = []
        """Every lease so far, with its run."""
        self.auto_acknowledged: set[str] = set()
        """Auto-acknowledged runs: they stay SCHEDULED and are in no queue."""

    def teardown(self) -> None:
        self.let_all_runs_end()
        self.raw.close()

    def let_all_runs_end(self) -> None:
        """Check that each run ends: workers that complete what they receive end all SCHEDULED runs."""
        for tag in LIMITED_TAGS:
            self.perform(set_limits, LimitSetting(tag, 1))
        for (id,) in self.rows("SELECT id FROM task_run WHERE state_type IN ('RUNNING', 'CANCELLING')"):
            self.perform(set_task_run_states, StateChange(id, propose(StateType.COMPLETED), force=True))
        for key in KEYS:
            self.perform(resume_task_queues, key)
        for _ in range(FINISH_ROUNDS):
            unfinished = {id for (id,) in self.rows("SELECT id FROM task_run WHERE state_type = 'SCHEDULED'")}
            if not unfinished - self.auto_acknowledged:
                return
            self.now += timedelta(seconds=30)
            self.perform(sweep_leases, MAX_SWEEP_SIZE)
            self.sweep_deadlines()
            self.perform(wake_overdue_waiters, "this server")
            demand = Demand(1, frozenset(KEYS), PREFETCH, 60.0, "worker")
            claim: Claim = self.perform(claim_due_runs, ClaimRequest([demand], list(KEYS), 30.0))
            for delivery in claim.deliveries:
                for type in (StateType.RUNNING, StateType.COMPLETED):
                    change = StateChange(delivery.task_run.id, propose(type), lease_id=delivery.lease_id)
                    self.perform(set_task_run_states, change)
        raise AssertionError("a run has not ended")

    def perform(self, operation: Callable[..., list[Any]], item: Any) -> Any:
        self.raw.execute("BEGIN")
        (result,) = operation(SQLiteConnection(self.raw, format_timestamp(self.now)), [item])
        self.raw.execute("COMMIT")
        assert not isinstance(result, Exception)
        return result

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.raw.execute(statement, values).fetchall()

    def snapshot(self) -> list[list[tuple[Any, ...]]]:
        return [self.rows(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES]  # noqa: S608

    def is_live(self, lease: str) -> bool:
        found = self.rows("SELECT lease_expires_at FROM queue_entry WHERE lease_id = ?", lease)
        return bool(found) and found[0][0] > format_timestamp(self.now)

    def create_run(
        self,
        key: str,
        delay: float = 0,
        retries: int = 0,
        tags: tuple[str, ...] = (),
        cache_key: str | None = None,
        priority: int = 0,
        expires_in: float | None = None,
        timeout: float | None = None,
    ) -> None:
        self.number += 1
        expires_at = None if expires_in is None else format_timestamp(self.now + timedelta(seconds=expires_in))
        due_at = format_timestamp(self.now + timedelta(seconds=delay))
        state = propose(StateType.SCHEDULED, scheduled_time=due_at)
        new = NewTaskRun(
            key,
            str(self.number),
            state=state,
            tags=tags,
            cache_key=cache_key,
            priority=priority,
            expires_at=expires_at,
            timeout_seconds=timeout,
        )
        new.retry_policy.retries = retries
        self.perform(create_task_runs, new)

    @rule(
        key=st.sampled_from(KEYS),
        delay=st.sampled_from([0, 0, 5, 60]),
        retries=st.sampled_from([0, 1]),
        tags=st.sampled_from([(), ("x",), ("y",), LIMITED_TAGS]),
        cache_key=st.sampled_from([None, None, CACHE_KEY]),
        priority=st.sampled_from([-1, 0, 0, 3]),
        deadlines=st.sampled_from([{}, {}, {"expires_in": 5}, {"expires_in": 60}, {"timeout": 20}]),
    )
    def create(
        self,
        key: str,
        delay: float,
        retries: int,
        tags: tuple[str, ...],
        cache_key: str | None,
        priority: int,
        deadlines: dict[str, float],
    ) -> None:
        self.create_run(key, delay, retries, tags, cache_key, priority, **deadlines)

    @precondition(lambda self: self.rows("SELECT 1 FROM task_run LIMIT 1"))
    @rule(priority=st.sampled_from([-10, 0, 10]), data=st.data())
    def change_priority(self, priority: int, data: st.DataObject) -> None:
        self.perform(update_task_runs, TaskRunUpdate(self.draw_run(data), priority=priority))

    @rule(key=st.sampled_from(KEYS), is_paused=st.booleans())
    def pause_or_resume(self, key: str, is_paused: bool) -> None:
        self.perform(pause_task_queues if is_paused else resume_task_queues, key)

    def paused_keys(self) -> set[str]:
        return {key for (key,) in self.rows("SELECT task_key FROM paused_queue")}

    @rule()
    def sweep_deadlines(self) -> None:
        self.perform(cancel_expired_runs, MAX_SWEEP_SIZE)
        self.perform(end_timed_out_runs, MAX_SWEEP_SIZE)
        now = format_timestamp(self.now)
        assert self.rows(f"SELECT 1 FROM task_run WHERE {CAN_EXPIRE} AND expires_at <= ?", now) == []  # noqa: S608
        assert (
            self.rows(
                f"SELECT 1 FROM queue_entry JOIN task_run ON id = task_run_id WHERE times_out_at <= ? AND {CAN_RUN_OUT}",  # noqa: S608
                now,
            )
            == []
        )

    @rule(data=st.data())
    def cache_a_result(self, data: st.DataObject) -> None:
        if running := [id for (id,) in self.rows("SELECT id FROM task_run WHERE state_type = 'RUNNING' ORDER BY id")]:
            completed = propose(StateType.COMPLETED, cache_key=CACHE_KEY)
            self.perform(set_task_run_states, StateChange(data.draw(st.sampled_from(running)), completed))

    @rule(key=st.sampled_from(KEYS), tag=st.sampled_from(LIMITED_TAGS))
    def create_more_than_a_limit_allows(self, key: str, tag: str) -> None:
        self.perform(set_limits, LimitSetting(tag, 1))
        for _ in range(3):
            self.create_run(key, tags=(tag,))

    @rule(keys=st.sampled_from([("a",), ("b",), KEYS]), data=st.data())
    def start(self, keys: tuple[str, ...], data: st.DataObject) -> None:
        """Claim runs as a worker, and start one of them or receive WAIT or ABORT for it."""
        before = len(self.leases)
        self.claim(keys)
        if claimed := self.leases[before:]:
            lease, run = data.draw(st.sampled_from(claimed))
            self.perform(set_task_run_states, StateChange(run, propose(StateType.RUNNING), lease_id=lease))

    @rule(tag=st.sampled_from(LIMITED_TAGS), limit=st.sampled_from([-1, 0, 1, 1, 2]))
    def set_limit(self, tag: str, limit: int) -> None:
        self.perform(set_limits, LimitSetting(tag, limit))

    @rule(tag=st.sampled_from(LIMITED_TAGS))
    def delete_limit(self, tag: str) -> None:
        if self.rows("SELECT 1 FROM concurrency_limit WHERE tag = ?", tag):
            self.perform(delete_limits, tag)

    @rule()
    def wake_overdue(self) -> None:
        self.perform(wake_overdue_waiters, "this server")

    @rule(seconds=st.sampled_from([0.5, 5, 30, 60, 120]))
    def advance_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(keys=st.sampled_from([("a",), ("b",), KEYS]), starts=st.booleans())
    def deliver(self, keys: tuple[str, ...], starts: bool) -> None:
        self.claim(keys, starts=starts)

    @rule(key=st.sampled_from(KEYS))
    def let_a_started_claim_end_unconfirmed(self, key: str) -> None:
        """Start runs, then lose, release or forget each of them, and check that nothing counts as a run."""
        before = len(self.leases)
        counts = dict(self.rows("SELECT id, run_count FROM task_run"))
        self.claim((key,), starts=True)
        started = self.leases[before:]
        for number, (lease, _) in enumerate(started):
            if number == 0:
                self.perform(recover_lost_connections, lease)
            elif number == 1:
                self.perform(release_unconfirmed, lease)
        self.now += timedelta(seconds=30)
        self.perform(sweep_leases, MAX_SWEEP_SIZE)
        for _, run in started:
            ((type, name, count),) = self.rows(
                "SELECT state_type, state_name, run_count FROM task_run WHERE id = ?", run
            )
            assert (type, name) in {("SCHEDULED", "AwaitingRedelivery"), ("CRASHED", "Undeliverable")}
            assert count == counts[run]

    @rule()
    def restart_the_only_server(self) -> None:
        self.perform(release_all_unacknowledged, 30.0)
        unacknowledged = self.rows(
            "SELECT state_type, lease_expires_at FROM queue_entry JOIN task_run ON task_run.id = task_run_id"
            " WHERE lease_id IS NOT NULL AND NOT is_acknowledged"
        )
        assert set(unacknowledged) <= {("RUNNING", format_timestamp(self.now + timedelta(seconds=30)))}

    def claim(self, keys: tuple[str, ...], *, starts: bool = False) -> None:
        unacknowledged = self.rows(
            "SELECT count(*) FROM queue_entry WHERE lease_id IS NOT NULL AND NOT is_acknowledged"
        )
        credit = PREFETCH - unacknowledged[0][0]
        if credit <= 0:
            return
        waiting = {
            run: (available_at, expires_at)
            for run, available_at, expires_at in self.rows(
                "SELECT task_run_id, available_at, expires_at FROM queue_entry"
                " WHERE lease_id IS NULL AND waits_for_tag IS NULL"
            )
        }
        full, now = self.full_tags(), format_timestamp(self.now)
        demand = Demand(1, frozenset(keys), credit, 60.0, "worker", starts)
        claim: Claim = self.perform(claim_due_runs, ClaimRequest([demand], list(keys), 30.0))
        assert len(claim.deliveries) <= credit
        if len(claim.deliveries) < credit and not claim.has_more:
            left = due_entries(SQLiteConnection(self.raw, format_timestamp(self.now)), keys, per_group=1000)
            # A run that expires during the claim passes its slot on: the next claim gets the run that was woken.
            assert [entry for entry in left if entry.task_run_id in waiting] == [], "a due run was not delivered"
        left_behind = self.rows(
            "SELECT task_run_id, task_key, priority FROM queue_entry"
            " WHERE lease_id IS NULL AND waits_for_tag IS NULL AND available_at <= ?",
            now,
        )
        for delivery in claim.deliveries:
            run = delivery.task_run
            available_at, expires_at = waiting[run.id]
            assert run.task_key in keys
            assert run.task_key not in self.paused_keys(), "delivered while its queue is paused"
            assert available_at <= now, "delivered before it was due"
            assert expires_at is None or expires_at > now, "delivered after it has expired"
            assert all(
                priority <= run.priority
                for id, key, priority in left_behind
                # Others may have been woken for a slot during the claim.
                if key == run.task_key and id in waiting and waiting[id][0] <= now
            ), "delivered before a run of higher priority"
            assert not full & set(run.tags), "delivered without a free slot"
            assert run.state_type is (StateType.RUNNING if starts else StateType.SCHEDULED)
            stored = self.rows("SELECT state_id, run_count FROM task_run WHERE id = ?", run.id)
            assert stored == [(run.state_id, run.run_count)], "delivered with a state that is not stored"
            self.leases.append((delivery.lease_id, run.id))

    @precondition(lambda self: self.leases)
    @rule(operation=st.sampled_from(sorted(LEASE_OPERATIONS)), data=st.data())
    def perform_on_a_lease(self, operation: str, data: st.DataObject) -> None:
        lease, run = data.draw(st.sampled_from(self.leases))
        # Deliveries with auto-acknowledgement end before their workers can acknowledge them.
        acknowledged = self.rows("SELECT 1 FROM queue_entry WHERE lease_id = ? AND is_acknowledged", lease)
        assume(operation != "finish" or not acknowledged)
        is_live, before = self.is_live(lease), self.snapshot()
        call, item = LEASE_OPERATIONS[operation]
        self.perform(call, item(lease))
        if operation == "finish" and is_live:
            self.auto_acknowledged.add(run)
        if not is_live:
            assert self.snapshot() == before, "a lost lease changed something"

    @precondition(lambda self: self.rows("SELECT 1 FROM task_run LIMIT 1"))
    @rule(type=st.sampled_from(sorted(StateType)), force=st.booleans(), names_lease=st.booleans(), data=st.data())
    def set_state(self, type: StateType, force: bool, names_lease: bool, data: st.DataObject) -> None:
        run = self.draw_run(data)
        leases = [lease for lease, of_run in self.leases if of_run == run] if names_lease else []
        lease = data.draw(st.sampled_from(leases)) if leases else None
        is_lost, before = lease is not None and not self.is_live(lease), self.snapshot()
        self.perform(set_task_run_states, StateChange(run, propose(type), force, lease))
        if is_lost:
            assert self.snapshot() == before, "a lost lease changed something"
        elif self.snapshot() != before:
            self.auto_acknowledged.discard(run)

    @rule(verb=st.sampled_from(VERBS), limit=st.sampled_from([1, 3, 1000]), max_waiting=st.sampled_from([0, 2, 1000]))
    def change_many(self, verb: TaskRunVerb, limit: int, max_waiting: int) -> None:
        """Change the oldest runs by a verb, as a dry run has predicted."""
        capacity = QueueCapacity(max_scheduled=max_waiting, max_retry=max_waiting, is_shared=False)
        change, before = BulkChange(verb, {"id": {"is_null": False}}, limit), self.snapshot()
        states = set(self.rows("SELECT id, state_id FROM task_run"))
        predicted = preview_change(SQLiteConnection(self.raw, format_timestamp(self.now)), change, capacity)
        assert self.snapshot() == before, "a dry run changed something"

        result = self.perform(partial(change_task_runs, capacity=capacity), change)

        assert result == predicted
        changed = {id for id, _ in set(self.rows("SELECT id, state_id FROM task_run")) - states}
        assert len(changed) == result.changed
        self.auto_acknowledged -= changed

    @precondition(lambda self: self.rows("SELECT 1 FROM task_run LIMIT 1"))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.perform(delete_task_runs, self.draw_run(data))

    def draw_run(self, data: st.DataObject) -> str:
        """Choose one of the runs, most often one that has not ended."""
        unfinished = [id for (id,) in self.rows("SELECT id FROM task_run WHERE end_time IS NULL ORDER BY id")]
        every = [id for (id,) in self.rows("SELECT id FROM task_run ORDER BY id")]
        return data.draw(st.sampled_from([*unfinished, *every]))

    @rule()
    def sweep(self) -> None:
        self.perform(sweep_leases, MAX_SWEEP_SIZE)
        assert self.rows("SELECT 1 FROM queue_entry WHERE lease_expires_at <= ?", format_timestamp(self.now)) == []

    @rule()
    def recover_from_an_outage(self) -> None:
        self.perform(OutageRecovery(MAX_SILENCE_SECONDS), Outage(since=None, concerns_all_servers=True))

    @invariant()
    def a_run_has_at_most_one_live_lease(self) -> None:
        live = [run for lease, run in self.leases if self.is_live(lease)]
        assert len(live) == len(set(live))

    @invariant()
    def every_run_has_the_latest_of_its_states(self) -> None:
        current = self.rows("SELECT id, state_id, state_type, state_name, state_timestamp FROM task_run ORDER BY id")
        latest = self.rows("SELECT run_id, max(id), type, name, timestamp FROM task_run_state GROUP BY 1 ORDER BY 1")
        assert current == latest

    @invariant()
    def a_terminal_run_is_not_queued_or_leased(self) -> None:
        queued = self.rows("SELECT state_type FROM task_run JOIN queue_entry ON task_run_id = task_run.id")
        assert not TERMINAL & {StateType(type) for (type,) in queued}

    def full_tags(self) -> set[str]:
        """Return the tags whose limit has no free slot."""
        limits = self.rows(
            "SELECT tag FROM concurrency_limit AS lim"
            ' WHERE "limit" <= (SELECT count(*) FROM concurrency_slot WHERE limit_id = lim.id)'
        )
        return {tag for (tag,) in limits}

    @invariant()
    def a_run_waits_only_for_a_slot_that_is_full_or_offered_to_another_run(self) -> None:
        waiting = self.rows("SELECT DISTINCT waits_for_tag FROM queue_entry WHERE lease_id IS NULL AND waits_for_slot")
        for tag in {tag for (tag,) in waiting} - self.full_tags():
            offered = self.rows(
                "SELECT 1 FROM task_run JOIN json_each(tags) ON value = ?"
                " LEFT JOIN queue_entry ON task_run_id = task_run.id"
                " WHERE state_type IN ('SCHEDULED', 'PENDING') AND (lease_id IS NOT NULL OR waits_for_tag IS NULL)",
                tag,
            )
            assert offered, f"no run takes the free slot of {tag}"

    @invariant()
    def waiting_for_a_slot_has_a_tag_and_a_state_that_can_start(self) -> None:
        rows = self.rows(
            "SELECT waits_for_slot, waits_for_tag IS NOT NULL, lease_id IS NULL, state_type"
            " FROM queue_entry JOIN task_run ON task_run_id = task_run.id"
        )
        assert all(waits == has_tag for waits, has_tag, _, _ in rows)
        assert all(type == "SCHEDULED" for waits, _, is_unleased, type in rows if waits and is_unleased)

    @invariant()
    def a_queued_run_and_its_entry_have_the_same_priority_and_expiry(self) -> None:
        entries = self.rows("SELECT task_run_id, priority, expires_at FROM queue_entry ORDER BY 1")
        runs = self.rows(
            "SELECT id, task_run.priority, iif(start_time IS NULL, task_run.expires_at, NULL)"
            " FROM task_run JOIN queue_entry ON task_run_id = id ORDER BY 1"
        )
        assert entries == runs

    @invariant()
    def a_time_limit_runs_only_under_a_lease_of_a_run_that_has_started(self) -> None:
        timed = self.rows(
            "SELECT lease_id IS NOT NULL, start_time IS NOT NULL FROM queue_entry JOIN task_run ON id = task_run_id"
            " WHERE times_out_at IS NOT NULL"
        )
        assert set(timed) <= {(1, 1)}
        running = self.rows(
            "SELECT timeout_seconds IS NULL, times_out_at IS NULL FROM queue_entry JOIN task_run ON id = task_run_id"
            " WHERE state_type = 'RUNNING'"
        )
        assert all(is_untimed == has_no_end for is_untimed, has_no_end in running)

    @invariant()
    def a_cancelling_run_is_held_by_a_worker(self) -> None:
        cancelling = self.rows(
            "SELECT is_acknowledged FROM task_run LEFT JOIN queue_entry ON task_run_id = task_run.id"
            " WHERE state_type = 'CANCELLING'"
        )
        assert all(is_acknowledged == 1 for (is_acknowledged,) in cancelling)

    @invariant()
    def an_unacknowledged_run_is_scheduled_or_running(self) -> None:
        rows = self.rows(
            "SELECT state_type FROM task_run JOIN queue_entry ON task_run_id = task_run.id"
            " WHERE lease_id IS NOT NULL AND NOT is_acknowledged"
        )
        assert {type for (type,) in rows} <= {"SCHEDULED", "RUNNING"}

    @invariant()
    def no_more_slots_are_taken_than_running_runs_hold(self) -> None:
        holders = self.rows("SELECT state_type FROM concurrency_slot JOIN task_run ON task_run.id = task_run_id")
        assert {type for (type,) in holders} <= {"RUNNING", "CANCELLING"}

    @invariant()
    def every_scheduled_run_is_leased_or_claimable_once_due(self) -> None:
        scheduled = {id for (id,) in self.rows("SELECT id FROM task_run WHERE state_type = 'SCHEDULED'")}
        entries = self.rows(
            "SELECT task_run_id, lease_id, available_at FROM queue_entry WHERE waits_for_tag IS NULL"
            " AND task_key NOT IN (SELECT task_key FROM paused_queue)"
        )
        queued = {run for (run,) in self.rows("SELECT task_run_id FROM queue_entry")}
        assert scheduled - self.auto_acknowledged <= queued
        due = {
            run for run, lease, available_at in entries if lease is None and available_at <= format_timestamp(self.now)
        }
        claimable = due_entries(SQLiteConnection(self.raw, format_timestamp(self.now)), KEYS, per_group=1000)
        assert {entry.task_run_id for entry in claimable} == due


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueueInvariants = QueueMachine.TestCase
