"""Round trips of writes on PostgreSQL: how many statements each operation sends, and that combining them stays atomic."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from db.connection import Connection
from db.database import WriteOperation
from db.enums import StateType
from db.errors import RowsLocked, TransactionConflict
from db.group_commit import PendingWrite, execute_batch
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.transaction import transaction
from db.runtime.memory_budget import MAX_READ_BYTES
from db.statements import queue_pauses
from db.statements.states import insert_task_run_states
from db.statements.task_runs import insert_task_runs, task_run_facts, task_runs_by_id, task_runs_by_key
from resolvers.bulk_changes.pages import BulkChange
from resolvers.bulk_changes.task_runs import change_task_runs
from resolvers.bulk_changes.verbs import Cancellation
from resolvers.concurrency_limits import LimitSetting, set_limits
from resolvers.delivery.claim import Delivery, claim_due_runs
from resolvers.delivery.exchange import exchange_items
from resolvers.delivery.leases import LeaseResult, LeaseStatus, Renewal, acknowledge_leases
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewFlow, create_flows
from resolvers.queue.capacity import QueueCapacity
from resolvers.task_runs import (
    CreatedTaskRun,
    NewTaskRun,
    build_task_run,
    create_all_task_runs,
    create_task_runs,
)
from resolvers.transitions.enter_state import enter_state
from resolvers.transitions.set_states import (
    FlowRunTransitionResult,
    StateChange,
    TaskRunTransitionResult,
    set_flow_run_states,
    set_task_run_states,
)
from tests.builders.ids import UNKNOWN_ID
from tests.builders.rows import claim_request
from tests.builders.transitions import propose
from tests.client import TIMEOUT_SECONDS
from tests.serving import POSTGRESQL_ONLY

# SQLite has no round trips.
pytestmark = POSTGRESQL_ONLY

Item = TypeVar("Item")
Result = TypeVar("Result")


@pytest.fixture
def database(databases: Sequence[PostgreSQLDatabase]) -> PostgreSQLDatabase:
    return databases[0]


class RecordingConnection:
    """An asyncpg connection that records the first word of each statement."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._transport = raw._transport
        self.statements: list[str] = []

    async def fetch(self, text: str, *values: Any) -> Any:
        return await self._record(self._raw.fetch, text, *values)

    async def execute(self, text: str, *values: Any) -> Any:
        return await self._record(self._raw.execute, text, *values)

    async def executemany(self, text: str, rows: Any) -> Any:
        return await self._record(self._raw.executemany, text, rows)

    async def _record(self, execute: Callable[..., Awaitable[Any]], text: str, *values: Any) -> Any:
        self.statements.append(text.split(maxsplit=1)[0])
        return await execute(text, *values)


@asynccontextmanager
async def connection_of(database: PostgreSQLDatabase) -> AsyncGenerator[Any]:
    raw = await database._connections.acquire()
    try:
        yield raw
    finally:
        await database._connections.release(raw, is_reusable=True)


async def statements_of(
    database: PostgreSQLDatabase, operation: WriteOperation[Item, Result], items: Sequence[Item]
) -> list[str]:
    """Execute the operation, which must refuse no item, and return the first word of each statement."""
    request = PendingWrite(operation, items, asyncio.get_running_loop().create_future())
    async with connection_of(database) as raw:
        recording = RecordingConnection(raw)
        (outcome,), _ = await greenlet_spawn(
            execute_batch, partial(transaction, recording, database.clock, random.random, MAX_READ_BYTES), [request]
        )
    assert isinstance(outcome, list), outcome
    assert len(outcome) == len(items)
    assert not any(isinstance(result, Exception) for result in outcome)
    return recording.statements


async def wait_for_blocked_transaction(database: PostgreSQLDatabase) -> None:
    """Wait until a transaction waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(TIMEOUT_SECONDS), connection_of(database) as raw:
        while not await raw.fetchval(waiting):
            continue


def background(count: int, state: StateType = StateType.PENDING, prefix: str = "") -> list[NewTaskRun]:
    return [NewTaskRun("t", f"{prefix}{n}", tags=["etl"], state=propose(state)) for n in range(count)]


async def create_runs(database: PostgreSQLDatabase, wanted: Sequence[NewTaskRun]) -> list[str]:
    results = await database.write_all(create_task_runs, wanted)
    return [result.task_run.id for result in results if isinstance(result, CreatedTaskRun)]


async def flow_run_id(database: PostgreSQLDatabase, flow_name: str = "f") -> str:
    flow = await database.write(create_flows, NewFlow(flow_name))
    created = await database.write(create_flow_runs, NewFlowRun(flow.flow.id, state=propose(StateType.RUNNING)))
    return created.flow_run.id


def changes(ids: Sequence[str], type: StateType) -> list[StateChange]:
    return [StateChange(id, propose(type)) for id in ids]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("state", [StateType.PENDING, StateType.SCHEDULED])
async def test_creating_takes_a_read_and_one_write_without_a_transaction(
    database: PostgreSQLDatabase, size: int, state: StateType
) -> None:
    assert await statements_of(database, create_task_runs, background(size, state)) == ["SELECT", "WITH"]


@pytest.mark.parametrize("size", [1, 100])
async def test_setting_states_takes_six_or_seven_statements(database: PostgreSQLDatabase, size: int) -> None:
    await database.write(set_limits, LimitSetting("etl", 1000))
    of_flow_run = await flow_run_id(database)
    ids = await create_runs(database, [NewTaskRun("t", str(n), of_flow_run, tags=["etl"]) for n in range(size)])

    running = await statements_of(database, set_task_run_states, changes(ids, StateType.RUNNING))
    completed = await statements_of(database, set_task_run_states, changes(ids, StateType.COMPLETED))

    # Reads of the run with its queue entry, the limits, and their slot holders; then one combined write.
    assert running == ["BEGIN", "WITH", "SELECT", "SELECT", "WITH", "COMMIT"]
    # One more read for the runs that wait for a slot.
    assert completed == ["BEGIN", "WITH", "SELECT", "SELECT", "WITH", "WITH", "COMMIT"]


async def test_a_refused_state_takes_three_statements(database: PostgreSQLDatabase) -> None:
    ids = await create_runs(database, [NewTaskRun("t", "1")])

    assert await statements_of(database, set_task_run_states, changes(ids, StateType.PENDING)) == [
        "BEGIN",
        "WITH",
        "COMMIT",
    ]


async def test_ending_a_run_dequeues_it_in_the_same_statement(database: PostgreSQLDatabase) -> None:
    ids = await create_runs(database, [NewTaskRun("t", "1", state=propose(StateType.SCHEDULED))])

    statements = await statements_of(database, set_task_run_states, changes(ids, StateType.CANCELLED))

    assert statements == ["BEGIN", "WITH", "WITH", "COMMIT"]


@pytest.mark.parametrize("size", [1, 100])
async def test_a_bulk_change_takes_eight_statements(database: PostgreSQLDatabase, size: int) -> None:
    await database.write(set_limits, LimitSetting("etl", 1000))
    await create_runs(database, background(size, StateType.SCHEDULED))
    capacity = QueueCapacity(max_scheduled=1000, max_retry=1000, is_shared=False)
    change = BulkChange(Cancellation(), {"task_key": {"in": ["t"]}}, size)

    statements = await statements_of(database, partial(change_task_runs, capacity=capacity), [change])

    # Reads of the page, the runs with their queue entries, the limits, their slot holders, and runs that wait for a slot.
    assert statements == ["BEGIN", "SELECT", "WITH", "SELECT", "SELECT", "WITH", "WITH", "COMMIT"]


@pytest.mark.parametrize("size", [1, 100])
async def test_acknowledging_takes_one_statement_without_a_transaction(database: PostgreSQLDatabase, size: int) -> None:
    leases = [each.lease_id for each in await create_leased(database, size)]

    assert await statements_of(database, acknowledge_leases, leases) == ["UPDATE"]


@pytest.mark.parametrize("credit", [2, 100])
async def test_claiming_the_last_run_also_reads_when_the_next_is_due(database: PostgreSQLDatabase, credit: int) -> None:
    scheduled = propose(StateType.SCHEDULED)
    await create_runs(database, [NewTaskRun("t", str(number), state=scheduled) for number in range(credit + 1)])

    with_backlog = await statements_of(database, claim_due_runs, [claim_request(credit)])
    last = await statements_of(database, claim_due_runs, [claim_request(1)])

    # The lock that pausing a queue waits for is taken with BEGIN, before the due runs are read.
    assert with_backlog == ["BEGIN;", "WITH", "SELECT", "UPDATE", "COMMIT"]
    assert last == ["BEGIN;", "WITH", "SELECT", "UPDATE", "WITH", "COMMIT"]


async def test_a_combined_write_that_fails_in_part_writes_nothing(database: PostgreSQLDatabase) -> None:
    ids: list[str] = []

    def write_a_run_with_a_duplicate_state_id(connection: Connection, keys: Sequence[str]) -> list[Exception | None]:
        runs = [build_task_run(NewTaskRun("t", key), connection.now) for key in keys]
        states = [enter_state(run, propose(StateType.PENDING), connection.now) for run in runs]
        states[0].id = existing
        insert_task_runs(connection, runs)
        insert_task_run_states(connection, states)
        ids[:] = [run.id for run in runs]
        return [None for _ in keys]

    (run_id,) = await create_runs(database, [NewTaskRun("t", "there")])
    there = (await database.read(lambda connection: task_runs_by_id(connection, [run_id])))[run_id]
    assert there.state
    existing = there.state.id

    with pytest.raises(TransactionConflict):
        await database.write(write_a_run_with_a_duplicate_state_id, "new")

    assert len(ids) == 1
    assert await database.read(lambda connection: task_runs_by_id(connection, ids)) == {}


async def test_a_refused_batch_discards_its_deferred_writes(database: PostgreSQLDatabase) -> None:
    good, bad = [NewTaskRun("t", "good")], [NewTaskRun("t", "bad"), NewTaskRun("t", "worse", UNKNOWN_ID)]

    first, refused = await database.write_all(create_all_task_runs, [good, bad])

    assert not isinstance(first, Exception)
    assert isinstance(refused, Exception)
    assert [each.created for each in first] == [True]
    keys = [("t", each.dynamic_key) for each in good + bad]
    found = await database.read(lambda connection: task_runs_by_key(connection, [(None, *key) for key in keys]))
    assert [key for _, _, key in found] == ["good"]


async def test_a_transaction_that_waited_for_a_lock_sees_the_new_state(databases: Sequence[PostgreSQLDatabase]) -> None:
    holding, waited = asyncio.Event(), asyncio.Event()
    (run_id,) = await create_runs(databases[0], [NewTaskRun("t", "1", state=propose(StateType.SCHEDULED))])

    def run_slowly(connection: Connection, changes: Sequence[StateChange]) -> list[TaskRunTransitionResult | Exception]:
        results = set_task_run_states(connection, changes)
        holding.set()
        await_only(asyncio.wait_for(waited.wait(), TIMEOUT_SECONDS))
        return results

    first = asyncio.create_task(databases[0].write(run_slowly, StateChange(run_id, propose(StateType.COMPLETED))))
    await asyncio.wait_for(holding.wait(), TIMEOUT_SECONDS)
    second = asyncio.create_task(
        databases[1].write(set_task_run_states, StateChange(run_id, propose(StateType.CANCELLING)))
    )
    await wait_for_blocked_transaction(databases[0])
    waited.set()
    completed, late = await asyncio.wait_for(asyncio.gather(first, second), TIMEOUT_SECONDS)

    assert (completed.status, completed.state_created) == ("ACCEPT", True)
    assert late.state is not None
    assert (late.status, late.state_created, late.state.type) == ("ABORT", False, StateType.COMPLETED)


async def test_a_transaction_that_waited_for_a_lock_locks_the_new_queue_entry(
    databases: Sequence[PostgreSQLDatabase],
) -> None:
    holding, waited, facts_read, done = (asyncio.Event() for _ in range(4))
    (run_id,) = await create_runs(databases[0], [NewTaskRun("t", "1")])

    def queue_slowly(
        connection: Connection, changes: Sequence[StateChange]
    ) -> list[TaskRunTransitionResult | Exception]:
        results = set_task_run_states(connection, changes)
        holding.set()
        await_only(asyncio.wait_for(waited.wait(), TIMEOUT_SECONDS))
        return results

    def read_facts_slowly(connection: Connection, ids: Sequence[str]) -> list[bool | Exception]:
        facts = task_run_facts(connection, [(id, None) for id in ids])
        facts_read.set()
        await_only(asyncio.wait_for(done.wait(), TIMEOUT_SECONDS))
        return [facts[id].queue_entry is not None for id in ids]

    first = asyncio.create_task(databases[0].write(queue_slowly, StateChange(run_id, propose(StateType.SCHEDULED))))
    await asyncio.wait_for(holding.wait(), TIMEOUT_SECONDS)
    second = asyncio.create_task(databases[1].write(read_facts_slowly, run_id))
    await wait_for_blocked_transaction(databases[0])
    waited.set()
    await asyncio.wait_for(asyncio.gather(first, facts_read.wait()), TIMEOUT_SECONDS)
    claim = await databases[0].write(claim_due_runs, claim_request(1))
    done.set()

    assert (claim.deliveries, claim.is_contended) == ([], True)
    assert await asyncio.wait_for(second, TIMEOUT_SECONDS) is True


@asynccontextmanager
async def row_locked_elsewhere(
    database: PostgreSQLDatabase, table: str, id: str, key: str = "id"
) -> AsyncIterator[Any]:
    """A transaction on another connection that has locked this row."""
    async with connection_of(database) as raw:
        await raw.execute("BEGIN")
        await raw.execute(f"SELECT FROM {table} WHERE {key} = $1 FOR UPDATE", id)
        try:
            yield raw
        finally:
            await raw.execute("COMMIT")


@pytest.mark.parametrize("table", ["task_run", "flow_run"])
async def test_changes_that_repeat_a_run_lock_all_runs_in_one_order(database: PostgreSQLDatabase, table: str) -> None:
    operation: WriteOperation[StateChange, Any]
    if table == "task_run":
        ids, operation = await create_runs(database, background(2)), set_task_run_states
    else:
        ids, operation = [await flow_run_id(database, name) for name in ("f", "g")], set_flow_run_states
    low, high = sorted(ids)
    wanted = [*changes([high], StateType.RUNNING), *changes([high, low], StateType.COMPLETED)]

    async with row_locked_elsewhere(database, table, low) as other:
        writing = asyncio.create_task(database.write_all(operation, wanted))
        await wait_for_blocked_transaction(database)
        # The row is not locked yet. Otherwise the two transactions would deadlock.
        await other.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE NOWAIT", high)
    outcomes = await asyncio.wait_for(writing, TIMEOUT_SECONDS)

    assert all(isinstance(outcome, TaskRunTransitionResult | FlowRunTransitionResult) for outcome in outcomes)


async def test_an_acknowledgement_that_waited_for_a_lock_sees_that_the_lease_has_ended(
    database: PostgreSQLDatabase,
) -> None:
    (delivery,) = await create_leased(database, 1)

    async with row_locked_elsewhere(database, "queue_entry", delivery.task_run.id, key="task_run_id") as other:
        acknowledging = asyncio.create_task(database.write(acknowledge_leases, delivery.lease_id))
        await wait_for_blocked_transaction(database)
        await other.execute("UPDATE queue_entry SET lease_id = NULL")
    result = await asyncio.wait_for(acknowledging, TIMEOUT_SECONDS)

    assert result == LeaseResult(delivery.lease_id, LeaseStatus.LOST)
    async with connection_of(database) as raw:
        assert await raw.fetchval("SELECT is_acknowledged FROM queue_entry") is False


@pytest.mark.parametrize("descending", [False, True])
async def test_acknowledging_locks_all_entries_in_one_order(database: PostgreSQLDatabase, descending: bool) -> None:
    low, high = deliveries = sorted(await create_leased(database, 2), key=lambda each: each.task_run.id)
    leases = [each.lease_id for each in sorted(deliveries, key=lambda each: each.lease_id, reverse=descending)]

    async with row_locked_elsewhere(database, "queue_entry", low.task_run.id, key="task_run_id") as other:
        acknowledging = asyncio.create_task(database.write_all(acknowledge_leases, leases))
        await wait_for_blocked_transaction(database)
        # The row is not locked yet. Otherwise the two transactions would deadlock.
        await other.execute("SELECT FROM queue_entry WHERE lease_id = $1 FOR UPDATE NOWAIT", high.lease_id)
    results = await asyncio.wait_for(acknowledging, TIMEOUT_SECONDS)

    assert [isinstance(each, LeaseResult) and each.is_held for each in results] == [True, True]


async def test_a_transaction_whose_first_lock_fails_ends(database: PostgreSQLDatabase) -> None:
    def lock(connection: Connection, requests: Sequence[str]) -> list[Exception | None]:
        queue_pauses.lock_for_claim(connection)
        return [None] * len(requests)

    request = PendingWrite(lock, ["claim"], asyncio.get_running_loop().create_future())
    async with connection_of(database) as pausing, connection_of(database) as raw:
        await pausing.execute(f"BEGIN; {queue_pauses._LOCK_OUT_CLAIMS.for_postgresql.text}")
        begin = partial(transaction, raw, database.clock, random.random, MAX_READ_BYTES)
        with pytest.raises(RowsLocked):
            await greenlet_spawn(execute_batch, begin, [request])
        await pausing.execute("COMMIT")

        assert not raw.is_in_transaction()


async def create_leased(database: PostgreSQLDatabase, count: int) -> list[Delivery]:
    """Create queued runs and claim them."""
    await create_runs(database, background(count, StateType.SCHEDULED, prefix="leased"))
    claimed = await database.write(claim_due_runs, claim_request(count))
    assert len(claimed.deliveries) == count
    return claimed.deliveries


@pytest.mark.parametrize("size", [1, 100])
async def test_an_exchange_locks_its_rows_first_and_then_takes_the_statements_of_its_parts(
    database: PostgreSQLDatabase, size: int
) -> None:
    deliveries = await create_leased(database, 2 * size)
    await create_runs(database, background(2 * size + 1, StateType.SCHEDULED))
    _, *claim, _ = await statements_of(database, claim_due_runs, [claim_request(size)])
    reports = [
        StateChange(each.task_run.id, propose(StateType.RUNNING), lease_id=each.lease_id) for each in deliveries[:size]
    ]
    renewals = [Renewal(each.lease_id, 60.0) for each in deliveries[size:]]
    locks, claim_lock, report, renew = ["SELECT"] * 2, ["SELECT"], ["WITH", "SELECT", "WITH"], ["SELECT", "UPDATE"]

    found = await statements_of(database, exchange_items, [*reports, *renewals, claim_request(size)])

    assert found == ["BEGIN", *locks, *report, *renew, *claim_lock, *claim, "COMMIT"]
