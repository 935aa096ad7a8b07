"""State changes on PostgreSQL: events follow one order that is consistent with commits, whatever the interleaving."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
import pytest
from sqlalchemy.util import greenlet_spawn

from db.connection import Connection, Notification, StatesWritten, WorkAvailable
from db.enums import StateType
from db.postgresql import notifier
from db.postgresql.connection import PostgreSQLConnection
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.driver import connect
from db.postgresql.notifier import CHANNEL
from db.runtime.ids import new_id
from db.runtime.timestamps import format_timestamp
from db.statements.state_changes import MAX_ID, FeedPage, FeedPosition, current_position, read_changes
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.rows import make_task_runs, new_task_runs
from tests.builders.transitions import propose
from tests.client import TIMEOUT_SECONDS
from tests.clock import START, ManualClock
from tests.serving import POSTGRESQL_ONLY

# SQLite has a single writer.
pytestmark = POSTGRESQL_ONLY

Result = TypeVar("Result")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock())
    yield database
    await database.close()


class OpenTransaction:
    """An open transaction with a transaction id, controlled by the test."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        connection = PostgreSQLConnection(self.raw, ManualClock(), format_timestamp(START))
        return await greenlet_spawn(work, connection)

    async def commit(self) -> None:
        await self.raw.execute("COMMIT")


@asynccontextmanager
async def transaction(database: PostgreSQLDatabase) -> AsyncIterator[OpenTransaction]:
    async with database._pool.acquire() as raw:
        await raw.execute("BEGIN")
        await raw.fetchval("SELECT pg_current_xact_id()::text")
        try:
            yield OpenTransaction(raw)
        finally:
            # After a commit no transaction is open, and PostgreSQL only warns.
            await raw.execute("ROLLBACK")


def set_state_in(id: str, type: StateType) -> Callable[[Connection], None]:
    def set_state(connection: Connection) -> None:
        (outcome,) = set_task_run_states(connection, [StateChange(id, propose(type), force=True)])
        assert not isinstance(outcome, Exception)
        assert outcome.state_created

    return set_state


async def make_runs(database: PostgreSQLDatabase, count: int) -> list[str]:
    """Create runs and return their ids."""
    return await database.write(lambda connection, _: [make_task_runs(connection, new_task_runs(count))], "make")


async def set_state(database: PostgreSQLDatabase, id: str, type: StateType) -> None:
    await database.write(lambda connection, _: [set_state_in(id, type)(connection)], "move")


async def read(database: PostgreSQLDatabase, position: FeedPosition, size: int = 10) -> FeedPage:
    return await database.read(lambda connection: read_changes(connection, position, {}, size=size, backlog=100))


def states_of(page: FeedPage) -> list[tuple[str, StateType]]:
    return [(change.task_run.id, change.state.type) for change in page.changes]


async def test_a_change_waits_for_older_transactions_and_follows_theirs(database: PostgreSQLDatabase) -> None:
    early, late = await make_runs(database, 2)
    position = await database.read(current_position)
    async with transaction(database) as older:
        await set_state(database, late, StateType.RUNNING)
        blocked = await read(database, position)

        await older.run(set_state_in(early, StateType.RUNNING))
        await older.commit()
        page = await read(database, blocked.end)

    assert (states_of(blocked), blocked.is_blocked, blocked.end) == ([], True, position)
    assert states_of(page) == [(early, StateType.RUNNING), (late, StateType.RUNNING)]
    assert (page.is_blocked, page.has_more, page.has_gap) == (False, False, False)


async def test_a_rolled_back_transaction_blocks_nothing(database: PostgreSQLDatabase) -> None:
    (id,) = await make_runs(database, 1)
    position = await database.read(current_position)
    async with transaction(database) as older:
        await older.run(set_state_in(id, StateType.PAUSED))
    await set_state(database, id, StateType.RUNNING)

    assert states_of(await read(database, position)) == [(id, StateType.RUNNING)]


async def test_states_of_a_run_keep_their_order_across_overlapping_transactions(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    position = await database.read(current_position)
    async with transaction(database) as older:
        await set_state(database, id, StateType.RUNNING)
        await older.run(set_state_in(id, StateType.PAUSED))
        await older.commit()
    await set_state(database, id, StateType.COMPLETED)

    page = await read(database, position)

    assert states_of(page) == [(id, StateType.RUNNING), (id, StateType.PAUSED), (id, StateType.COMPLETED)]
    assert [change.previous_state_type for change in page.changes] == [
        StateType.PENDING,
        StateType.RUNNING,
        StateType.PAUSED,
    ]
    # Each change is a valid cursor position, although the first two have one transaction id.
    rest = [states_of(await read(database, change.position)) for change in page.changes]
    assert rest == [states_of(page)[1:], states_of(page)[2:], []]


async def test_transaction_ids_of_a_copied_database_block_no_new_change(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    await database._pool.execute("UPDATE task_run_state SET written_in = written_in + 1000000")
    position = await database.read(current_position)

    await set_state(database, id, StateType.RUNNING)

    assert states_of(await read(database, position)) == [(id, StateType.RUNNING)]


async def test_a_subscription_starts_at_the_present_despite_an_older_open_transaction(
    database: PostgreSQLDatabase,
) -> None:
    early, late = await make_runs(database, 2)
    async with transaction(database) as older:
        position = await database.read(current_position)
        await older.run(set_state_in(early, StateType.RUNNING))
        await older.commit()
    await set_state(database, late, StateType.RUNNING)

    assert position.id == MAX_ID
    assert states_of(await read(database, position)) == [(early, StateType.RUNNING), (late, StateType.RUNNING)]


async def test_state_ids_increase_even_after_one_from_a_clock_ahead(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    position = await database.read(current_position)
    async with transaction(database) as older:
        await set_state(database, id, StateType.RUNNING)
        # As if written by another server, half a second ahead.
        ahead = str(uuid.UUID(int=uuid.UUID(new_id(format_timestamp(START))).int + (500 << 80)))
        await database._pool.execute("UPDATE task_run_state SET id = $1 WHERE type = 'RUNNING'", ahead)
        await database._pool.execute("UPDATE task_run SET state_id = $1", ahead)
        await older.run(set_state_in(id, StateType.PAUSED))
        await older.commit()

    page = await read(database, position)

    assert states_of(page) == [(id, StateType.RUNNING), (id, StateType.PAUSED)]
    assert page.changes[0].position.transaction == page.changes[1].position.transaction


async def test_a_transaction_that_writes_states_notifies_once(database: PostgreSQLDatabase) -> None:
    ids = await make_runs(database, 2)
    received: list[Sequence[Notification]] = []
    database.listen(received.append)

    def move_each(connection: Connection, _: Sequence[str]) -> list[Exception | None]:
        for id in ids:
            set_state_in(id, StateType.RUNNING)(connection)
        return [None]

    await database.write(move_each, "move")
    await database.write(lambda _connection, _: [None], "nothing")

    written = [[each for each in notifications if isinstance(each, StatesWritten)] for notifications in received]
    assert [each for each in written if each] == [[StatesWritten()]]


async def test_state_notifications_are_delayed_but_urgent_ones_are_not(
    database: PostgreSQLDatabase, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: asyncio.Queue[Any] = asyncio.Queue()
    other = await connect(database_url, TIMEOUT_SECONDS)
    await other.add_listener(CHANNEL, lambda *arguments: received.put_nowait(orjson.loads(arguments[3])[1:]))

    database._notifier.publish([StatesWritten()])
    separate = await asyncio.wait_for(received.get(), TIMEOUT_SECONDS)
    monkeypatch.setattr(notifier, "STATES_WRITTEN_DELAY_SECONDS", 3600.0)
    database._notifier.publish([StatesWritten()])
    # Enough round trips for an immediate notification to be sent.
    for _ in range(10):
        await database.read(current_position)
    database._notifier.publish([WorkAvailable("t")])
    combined = await asyncio.wait_for(received.get(), TIMEOUT_SECONDS)
    await other.close()

    assert (separate, combined) == ([["s", ""]], [["s", ""], ["w", "t"]])
