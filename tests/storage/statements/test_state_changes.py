"""The feed on PostgreSQL goes by an order of commits, whatever order transactions begin and end in."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
import pytest
from sqlalchemy.util import greenlet_spawn

from db.connection import Connection, Missed, Notice, StatesWritten, WorkWaits
from db.enums import StateType
from db.postgresql import notifier
from db.postgresql.connection import PostgreSQLConnection
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.driver import connect
from db.postgresql.notifier import CHANNEL
from db.runtime.ids import new_id
from db.runtime.timestamps import instant
from db.statements.state_changes import GREATEST_ID, FeedPage, FeedPlace, present_place, read_changes
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.rows import make_task_runs, new_task_runs, proposed
from tests.client import PATIENCE
from tests.clock import START, ManualClock

Answer = TypeVar("Answer")


@pytest.fixture
def database_kind() -> str:
    """SQLite has one writer."""
    return "postgresql"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock())
    yield database
    await database.close()


class OpenTransaction:
    """A transaction that has its number, and goes on when the test says so."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    async def do(self, work: Callable[[Connection], Answer]) -> Answer:
        connection = PostgreSQLConnection(self.raw, ManualClock(), instant(START))
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
            # Nothing is open any more where it was committed; PostgreSQL only warns.
            await raw.execute("ROLLBACK")


def moving(id: str, type: StateType) -> Callable[[Connection], None]:
    def move(connection: Connection) -> None:
        (outcome,) = set_task_run_states(connection, [StateChange(id, proposed(type), force=True)])
        assert not isinstance(outcome, Exception)
        assert outcome.created

    return move


async def make_runs(database: PostgreSQLDatabase, count: int) -> list[str]:
    """The ids of new runs."""
    return await database.write(lambda connection, _: [make_task_runs(connection, new_task_runs(count))], "make")


async def move(database: PostgreSQLDatabase, id: str, type: StateType) -> None:
    await database.write(lambda connection, _: [moving(id, type)(connection)], "move")


async def read(database: PostgreSQLDatabase, place: FeedPlace, size: int = 10) -> FeedPage:
    return await database.read(lambda connection: read_changes(connection, place, {}, size=size, backlog=100))


def states_of(page: FeedPage) -> list[tuple[str, StateType]]:
    return [(change.task_run.id, change.state.type) for change in page.changes]


async def test_a_change_waits_for_older_transactions_and_comes_behind_theirs(database: PostgreSQLDatabase) -> None:
    early, late = await make_runs(database, 2)
    place = await database.read(present_place)
    async with transaction(database) as older:
        await move(database, late, StateType.RUNNING)
        held_up = await read(database, place)

        await older.do(moving(early, StateType.RUNNING))
        await older.commit()
        page = await read(database, held_up.end)

    assert (states_of(held_up), held_up.is_held_up, held_up.end) == ([], True, place)
    assert states_of(page) == [(early, StateType.RUNNING), (late, StateType.RUNNING)]
    assert (page.is_held_up, page.goes_on, page.has_gap) == (False, False, False)


async def test_a_transaction_that_is_undone_holds_up_nothing(database: PostgreSQLDatabase) -> None:
    (id,) = await make_runs(database, 1)
    place = await database.read(present_place)
    async with transaction(database) as older:
        await older.do(moving(id, StateType.PAUSED))
    await move(database, id, StateType.RUNNING)

    assert states_of(await read(database, place)) == [(id, StateType.RUNNING)]


async def test_the_states_of_a_run_keep_their_order_where_the_later_one_is_written_by_an_older_transaction(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    place = await database.read(present_place)
    async with transaction(database) as older:
        await move(database, id, StateType.RUNNING)
        await older.do(moving(id, StateType.PAUSED))
        await older.commit()
    await move(database, id, StateType.COMPLETED)

    page = await read(database, place)

    assert states_of(page) == [(id, StateType.RUNNING), (id, StateType.PAUSED), (id, StateType.COMPLETED)]
    assert [change.previous_state_type for change in page.changes] == [
        StateType.PENDING,
        StateType.RUNNING,
        StateType.PAUSED,
    ]
    # Each is a place to go on from, although the first two have one number.
    rest = [states_of(await read(database, change.place)) for change in page.changes]
    assert rest == [states_of(page)[1:], states_of(page)[2:], []]


async def test_numbers_of_the_server_that_a_database_was_copied_from_hold_up_no_new_change(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    await database._pool.execute("UPDATE task_run_state SET written_in = written_in + 1000000")
    place = await database.read(present_place)

    await move(database, id, StateType.RUNNING)

    assert states_of(await read(database, place)) == [(id, StateType.RUNNING)]


async def test_a_subscription_begins_at_the_present_also_where_an_older_transaction_is_open(
    database: PostgreSQLDatabase,
) -> None:
    early, late = await make_runs(database, 2)
    async with transaction(database) as older:
        place = await database.read(present_place)
        await older.do(moving(early, StateType.RUNNING))
        await older.commit()
    await move(database, late, StateType.RUNNING)

    assert place.id == GREATEST_ID
    assert states_of(await read(database, place)) == [(early, StateType.RUNNING), (late, StateType.RUNNING)]


async def test_a_state_has_a_greater_id_than_the_one_before_even_if_that_was_made_by_a_clock_ahead(
    database: PostgreSQLDatabase,
) -> None:
    (id,) = await make_runs(database, 1)
    place = await database.read(present_place)
    async with transaction(database) as older:
        await move(database, id, StateType.RUNNING)
        # As if by another server, half a second ahead.
        ahead = str(uuid.UUID(int=uuid.UUID(new_id()).int + (500 << 80)))
        await database._pool.execute("UPDATE task_run_state SET id = $1 WHERE type = 'RUNNING'", ahead)
        await database._pool.execute("UPDATE task_run SET state_id = $1", ahead)
        await older.do(moving(id, StateType.PAUSED))
        await older.commit()

    page = await read(database, place)

    assert states_of(page) == [(id, StateType.RUNNING), (id, StateType.PAUSED)]
    assert page.changes[0].place.transaction == page.changes[1].place.transaction


# --- word to other servers ---


async def test_a_transaction_that_writes_states_announces_so_once(database: PostgreSQLDatabase) -> None:
    ids = await make_runs(database, 2)
    told: list[Sequence[Notice]] = []
    database.listen(told.append)

    def move_each(connection: Connection, _: Sequence[str]) -> list[Exception | None]:
        for id in ids:
            moving(id, StateType.RUNNING)(connection)
        return [None]

    await database.write(move_each, "move")
    await database.write(lambda _connection, _: [None], "nothing")

    # Servers are also told when they may have missed something, as when they have just connected.
    assert [notices for notices in told if notices != [Missed()]] == [[StatesWritten()]]


async def test_word_of_new_states_waits_for_more_but_not_what_is_urgent(
    database: PostgreSQLDatabase, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    other = await connect(database_url, PATIENCE)
    await other.add_listener(CHANNEL, lambda *arguments: heard.put_nowait(orjson.loads(arguments[3])[1:]))

    database._signals.pass_on([StatesWritten()])
    alone = await asyncio.wait_for(heard.get(), PATIENCE)
    monkeypatch.setattr(notifier, "UNHURRIED_SECONDS", 3600.0)
    database._signals.pass_on([StatesWritten()])
    # Long enough for a word to be sent that does not wait.
    for _ in range(10):
        await database.read(present_place)
    database._signals.pass_on([WorkWaits("t")])
    together = await asyncio.wait_for(heard.get(), PATIENCE)
    await other.close()

    assert (alone, together) == ([["s", ""]], [["s", ""], ["w", "t"]])
