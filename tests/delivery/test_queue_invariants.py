"""Invariants of the queue after any sequence of operations, checked with random sequences."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from db import migrations
from db.connection import SQLiteConnection
from db.enums import TERMINAL, StateType
from db.outages import MAX_SILENCE_SECONDS, Outage
from db.runtime.timestamps import format_timestamp
from db.statements import queue
from resolvers.concurrency_limits import LimitSetting, delete_limits, set_limits
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from resolvers.delivery.heartbeats import OutageRecovery
from resolvers.delivery.lease_recovery import recover_lost_connections
from resolvers.delivery.lease_sweeper import MAX_SWEEP_SIZE, sweep_leases
from resolvers.delivery.leases import (
    Release,
    Renewal,
    acknowledge_leases,
    finish_deliveries,
    release_leases,
    release_unacknowledged,
    renew_leases,
)
from resolvers.queue.slot_waiters import wake_overdue_waiters
from resolvers.task_runs import NewTaskRun, create_task_runs, delete_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.transitions import propose
from tests.clock import START

KEYS = ("a", "b")
LIMITED_TAGS = ("x", "y")
PREFETCH = 3
TABLES = ("task_run", "task_run_state", "queue_entry", "concurrency_limit", "concurrency_slot")
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
    "lose the connection": (recover_lost_connections, lambda lease: lease),
    "finish": (finish_deliveries, lambda lease: lease),
}


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
        for _ in range(FINISH_ROUNDS):
            unfinished = {id for (id,) in self.rows("SELECT id FROM task_run WHERE state_type = 'SCHEDULED'")}
            if not unfinished - self.auto_acknowledged:
                return
            self.now += timedelta(seconds=30)
            self.perform(sweep_leases, MAX_SWEEP_SIZE)
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

    def create_run(self, key: str, delay: float = 0, retries: int = 0, tags: tuple[str, ...] = ()) -> None:
        self.number += 1
        due_at = format_timestamp(self.now + timedelta(seconds=delay))
        state = propose(StateType.SCHEDULED, scheduled_time=due_at)
        new = NewTaskRun(key, str(self.number), state=state, tags=tags)
        new.retry_policy.retries = retries
        self.perform(create_task_runs, new)

    @rule(
        key=st.sampled_from(KEYS),
        delay=st.sampled_from([0, 0, 5, 60]),
        retries=st.sampled_from([0, 1]),
        tags=st.sampled_from([(), ("x",), ("y",), LIMITED_TAGS]),
    )
    def create(self, key: str, delay: float, retries: int, tags: tuple[str, ...]) -> None:
        self.create_run(key, delay, retries, tags)

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

    @rule(keys=st.sampled_from([("a",), ("b",), KEYS]))
    def deliver(self, keys: tuple[str, ...]) -> None:
        self.claim(keys)

    def claim(self, keys: tuple[str, ...]) -> None:
        unacknowledged = self.rows(
            "SELECT count(*) FROM queue_entry WHERE lease_id IS NOT NULL AND NOT is_acknowledged"
        )
        credit = PREFETCH - unacknowledged[0][0]
        if credit <= 0:
            return
        waiting = dict(
            self.rows(
                "SELECT task_run_id, available_at FROM queue_entry WHERE lease_id IS NULL AND waits_for_tag IS NULL"
            )
        )
        full = self.full_tags()
        demand = Demand(1, frozenset(keys), credit, 60.0, "worker")
        claim: Claim = self.perform(claim_due_runs, ClaimRequest([demand], list(keys), 30.0))
        assert len(claim.deliveries) <= credit
        for delivery in claim.deliveries:
            assert delivery.task_run.task_key in keys
            assert waiting[delivery.task_run.id] <= format_timestamp(self.now), "delivered before it was due"
            assert not full & set(delivery.task_run.tags), "delivered without a free slot"
            self.leases.append((delivery.lease_id, delivery.task_run.id))

    @precondition(lambda self: self.leases)
    @rule(operation=st.sampled_from(sorted(LEASE_OPERATIONS)), data=st.data())
    def perform_on_a_lease(self, operation: str, data: st.DataObject) -> None:
        lease, run = data.draw(st.sampled_from(self.leases))
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
    def a_cancelling_run_is_held_by_a_worker(self) -> None:
        cancelling = self.rows(
            "SELECT is_acknowledged FROM task_run LEFT JOIN queue_entry ON task_run_id = task_run.id"
            " WHERE state_type = 'CANCELLING'"
        )
        assert all(is_acknowledged == 1 for (is_acknowledged,) in cancelling)

    @invariant()
    def every_scheduled_run_is_leased_or_claimable_once_due(self) -> None:
        scheduled = {id for (id,) in self.rows("SELECT id FROM task_run WHERE state_type = 'SCHEDULED'")}
        entries = self.rows("SELECT task_run_id, lease_id, available_at FROM queue_entry WHERE waits_for_tag IS NULL")
        queued = {run for (run,) in self.rows("SELECT task_run_id FROM queue_entry")}
        assert scheduled - self.auto_acknowledged <= queued
        due = {
            run for run, lease, available_at in entries if lease is None and available_at <= format_timestamp(self.now)
        }
        claimable = queue.due_entries(SQLiteConnection(self.raw, format_timestamp(self.now)), KEYS, per_side=1000)
        assert {entry.task_run_id for entry in claimable} == due


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueueInvariants = QueueMachine.TestCase
