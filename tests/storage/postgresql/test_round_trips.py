"""What a write asks of PostgreSQL: every question is a way there and back. And that gathering them loses no promise."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from db.connection import Connection
from db.database import Operation
from db.enums import StateType
from db.errors import Collision
from db.group_commit import Request, carry_out
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.transaction import transaction
from db.runtime.memory_budget import MOST_BYTES
from db.statements.states import insert_task_run_states
from db.statements.task_runs import insert_task_runs, task_run_facts, task_runs_by_id, task_runs_by_key
from resolvers.concurrency_limits import WantedLimit, create_limits
from resolvers.delivery.claim import claim_due_runs
from resolvers.delivery.leases import acknowledge_leases
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewFlow, create_flows
from resolvers.orchestration.decide import enter
from resolvers.task_runs import (
    CreatedTaskRun,
    NewTaskRun,
    blank_task_run,
    create_all_task_runs,
    create_task_runs,
)
from resolvers.transitions.set_states import (
    FlowRunOutcome,
    StateChange,
    TaskRunOutcome,
    set_flow_run_states,
    set_task_run_states,
)
from tests.builders.rows import proposed, request_for
from tests.client import PATIENCE

Item = TypeVar("Item")
Result = TypeVar("Result")


@pytest.fixture
def database_kind() -> str:
    """On SQLite there is nobody to ask."""
    return "postgresql"


@pytest.fixture
def database(databases: Sequence[PostgreSQLDatabase]) -> PostgreSQLDatabase:
    return databases[0]


class Watched:
    """A connection of asyncpg that notes the first word of whatever it is asked."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._transport = raw._transport
        self.asked: list[str] = []

    async def fetch(self, text: str, *values: Any) -> Any:
        return await self._ask(self._raw.fetch, text, *values)

    async def execute(self, text: str, *values: Any) -> Any:
        return await self._ask(self._raw.execute, text, *values)

    async def executemany(self, text: str, rows: Any) -> Any:
        return await self._ask(self._raw.executemany, text, rows)

    async def _ask(self, how: Callable[..., Awaitable[Any]], text: str, *values: Any) -> Any:
        self.asked.append(text.split(maxsplit=1)[0])
        return await how(text, *values)


@asynccontextmanager
async def connection_of(database: PostgreSQLDatabase) -> AsyncGenerator[Any]:
    raw = await database._connections.take()
    try:
        yield raw
    finally:
        await database._connections.give_back(raw, in_order=True)


async def asked_by(
    database: PostgreSQLDatabase, operation: Operation[Item, Result], items: Sequence[Item]
) -> list[str]:
    """The first words of what the operation asks for these items, none of which it refuses."""
    request = Request(operation, items, asyncio.get_running_loop().create_future())
    async with connection_of(database) as raw:
        watched = Watched(raw)
        (outcome,), _ = await greenlet_spawn(
            carry_out, partial(transaction, watched, database.clock, MOST_BYTES), [request]
        )
    assert isinstance(outcome, list), outcome
    assert len(outcome) == len(items)
    assert not any(isinstance(result, Exception) for result in outcome)
    return watched.asked


async def somebody_waits(database: PostgreSQLDatabase) -> None:
    """Return once a transaction waits for another one's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(PATIENCE), connection_of(database) as raw:
        while not await raw.fetchval(waiting):
            continue


def background(count: int, state: StateType = StateType.PENDING, prefix: str = "") -> list[NewTaskRun]:
    return [NewTaskRun("t", f"{prefix}{n}", tags=["etl"], state=proposed(state)) for n in range(count)]


async def made(database: PostgreSQLDatabase, wanted: Sequence[NewTaskRun]) -> list[str]:
    results = await database.write_all(create_task_runs, wanted)
    return [result.task_run.id for result in results if isinstance(result, CreatedTaskRun)]


async def flow_run_id(database: PostgreSQLDatabase, flow_name: str = "f") -> str:
    flow = await database.write(create_flows, NewFlow(flow_name))
    made = await database.write(create_flow_runs, NewFlowRun(flow.flow.id, state=proposed(StateType.RUNNING)))
    return made.flow_run.id


def changes(ids: Sequence[str], type: StateType) -> list[StateChange]:
    return [StateChange(id, proposed(type)) for id in ids]


# --- how often it is asked ---


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("state", [StateType.PENDING, StateType.SCHEDULED])
async def test_creating_takes_a_look_and_one_statement_that_needs_no_transaction(
    database: PostgreSQLDatabase, size: int, state: StateType
) -> None:
    assert await asked_by(database, create_task_runs, background(size, state)) == ["SELECT", "WITH"]


@pytest.mark.parametrize("size", [1, 100])
async def test_setting_states_takes_six(database: PostgreSQLDatabase, size: int) -> None:
    await database.write(create_limits, WantedLimit("etl", 1000))
    of_flow_run = await flow_run_id(database)
    ids = await made(database, [NewTaskRun("t", str(n), of_flow_run, tags=["etl"]) for n in range(size)])

    running = await asked_by(database, set_task_run_states, changes(ids, StateType.RUNNING))
    completed = await asked_by(database, set_task_run_states, changes(ids, StateType.COMPLETED))

    # The run and its place, the limits, and who holds their slots; then all that is written.
    assert running == ["BEGIN", "WITH", "SELECT", "SELECT", "WITH", "COMMIT"]
    # And who waits for a slot.
    assert completed == ["BEGIN", "WITH", "SELECT", "SELECT", "SELECT", "WITH", "COMMIT"]


async def test_a_refusal_takes_three(database: PostgreSQLDatabase) -> None:
    ids = await made(database, [NewTaskRun("t", "1")])

    assert await asked_by(database, set_task_run_states, changes(ids, StateType.PENDING)) == ["BEGIN", "WITH", "COMMIT"]


async def test_ending_a_run_takes_it_out_of_the_queue_with_the_same_statement(database: PostgreSQLDatabase) -> None:
    ids = await made(database, [NewTaskRun("t", "1", state=proposed(StateType.SCHEDULED))])

    asked = await asked_by(database, set_task_run_states, changes(ids, StateType.CANCELLED))

    assert asked == ["BEGIN", "WITH", "WITH", "COMMIT"]


async def test_acknowledging_takes_five(database: PostgreSQLDatabase) -> None:
    await made(database, background(1, StateType.SCHEDULED))
    claim = await database.write(claim_due_runs, request_for(1))
    leases = [each.lease_id for each in claim.deliveries]

    assert await asked_by(database, acknowledge_leases, leases) == ["BEGIN", "SELECT", "SELECT", "UPDATE", "COMMIT"]


# --- and nothing is lost by it ---


async def test_where_one_part_of_a_statement_fails_none_of_it_is_written(database: PostgreSQLDatabase) -> None:
    ids: list[str] = []

    def write_a_run_with_another_one_s_state(connection: Connection, keys: Sequence[str]) -> list[Exception | None]:
        runs = [blank_task_run(NewTaskRun("t", key), connection.now) for key in keys]
        states = [enter(run, proposed(StateType.PENDING), connection.now) for run in runs]
        states[0].id = existing
        insert_task_runs(connection, runs)
        insert_task_run_states(connection, states)
        ids[:] = [run.id for run in runs]
        return [None for _ in keys]

    (run_id,) = await made(database, [NewTaskRun("t", "there")])
    there = (await database.read(lambda connection: task_runs_by_id(connection, [run_id])))[run_id]
    assert there.state
    existing = there.state.id

    with pytest.raises(Collision):
        await database.write(write_a_run_with_another_one_s_state, "new")

    assert len(ids) == 1
    assert await database.read(lambda connection: task_runs_by_id(connection, ids)) == {}


async def test_a_refused_part_takes_what_it_held_back_with_it(database: PostgreSQLDatabase) -> None:
    nowhere = "01a206b2-304f-7000-b2ee-99ddb7de4877"
    good, bad = [NewTaskRun("t", "good")], [NewTaskRun("t", "bad"), NewTaskRun("t", "worse", nowhere)]

    first, refused = await database.write_all(create_all_task_runs, [good, bad])

    assert not isinstance(first, Exception)
    assert isinstance(refused, Exception)
    assert [each.created for each in first] == [True]
    keys = [("t", each.dynamic_key) for each in good + bad]
    found = await database.read(lambda connection: task_runs_by_key(connection, [(None, *key) for key in keys]))
    assert [key for _, _, key in found] == ["good"]


async def test_who_waited_for_a_run_decides_by_what_has_become_of_it(databases: Sequence[PostgreSQLDatabase]) -> None:
    holding, waited = asyncio.Event(), asyncio.Event()
    (run_id,) = await made(databases[0], [NewTaskRun("t", "1", state=proposed(StateType.SCHEDULED))])

    def run_slowly(connection: Connection, asked: Sequence[StateChange]) -> list[TaskRunOutcome | Exception]:
        results = set_task_run_states(connection, asked)
        holding.set()
        await_only(asyncio.wait_for(waited.wait(), PATIENCE))
        return results

    first = asyncio.create_task(databases[0].write(run_slowly, StateChange(run_id, proposed(StateType.COMPLETED))))
    await asyncio.wait_for(holding.wait(), PATIENCE)
    second = asyncio.create_task(
        databases[1].write(set_task_run_states, StateChange(run_id, proposed(StateType.CANCELLING)))
    )
    await somebody_waits(databases[0])
    waited.set()
    completed, late = await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)

    assert (completed.status, completed.created) == ("ACCEPT", True)
    assert late.state is not None
    assert (late.status, late.created, late.state.type) == ("ABORT", False, StateType.COMPLETED)


async def test_who_waited_for_a_run_has_the_place_that_it_was_given_meanwhile_to_itself(
    databases: Sequence[PostgreSQLDatabase],
) -> None:
    holding, waited, looked, done = (asyncio.Event() for _ in range(4))
    (run_id,) = await made(databases[0], [NewTaskRun("t", "1")])

    def queue_slowly(connection: Connection, asked: Sequence[StateChange]) -> list[TaskRunOutcome | Exception]:
        results = set_task_run_states(connection, asked)
        holding.set()
        await_only(asyncio.wait_for(waited.wait(), PATIENCE))
        return results

    def look_slowly(connection: Connection, ids: Sequence[str]) -> list[bool | Exception]:
        facts = task_run_facts(connection, [(id, None) for id in ids])
        looked.set()
        await_only(asyncio.wait_for(done.wait(), PATIENCE))
        return [facts[id].queue_entry is not None for id in ids]

    first = asyncio.create_task(databases[0].write(queue_slowly, StateChange(run_id, proposed(StateType.SCHEDULED))))
    await asyncio.wait_for(holding.wait(), PATIENCE)
    second = asyncio.create_task(databases[1].write(look_slowly, run_id))
    await somebody_waits(databases[0])
    waited.set()
    await asyncio.wait_for(asyncio.gather(first, looked.wait()), PATIENCE)
    claim = await databases[0].write(claim_due_runs, request_for(1))
    done.set()

    assert (claim.deliveries, claim.is_contended) == ([], True)
    assert await asyncio.wait_for(second, PATIENCE) is True


# --- in which order locks are taken ---


@asynccontextmanager
async def held_by_another(database: PostgreSQLDatabase, table: str, id: str) -> AsyncIterator[Any]:
    """A transaction of somebody else, who has locked this row."""
    async with connection_of(database) as raw:
        await raw.execute("BEGIN")
        await raw.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", id)
        try:
            yield raw
        finally:
            await raw.execute("COMMIT")


@pytest.mark.parametrize("table", ["task_run", "flow_run"])
async def test_changes_that_name_a_run_again_lock_all_runs_in_one_order(
    database: PostgreSQLDatabase, table: str
) -> None:
    operation: Operation[StateChange, Any]
    if table == "task_run":
        ids, operation = await made(database, background(2)), set_task_run_states
    else:
        ids, operation = [await flow_run_id(database, name) for name in ("f", "g")], set_flow_run_states
    low, high = sorted(ids)
    wanted = [*changes([high], StateType.RUNNING), *changes([high, low], StateType.COMPLETED)]

    async with held_by_another(database, table, low) as other:
        writing = asyncio.create_task(database.write_all(operation, wanted))
        await somebody_waits(database)
        # Had they locked it before, each would wait for the other now.
        await other.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE NOWAIT", high)
    outcomes = await asyncio.wait_for(writing, PATIENCE)

    assert all(isinstance(outcome, TaskRunOutcome | FlowRunOutcome) for outcome in outcomes)
