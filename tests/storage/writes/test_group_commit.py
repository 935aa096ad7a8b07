"""Writes that are asked for at once reach the disk together, and fail alone."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from db.connection import Connection, LeaseSettled, Notice, SQLiteConnection, WorkWaits
from db.errors import BrokenReference, DatabaseUnavailable
from db.group_commit import Outcomes, Request, WriteBatches
from db.outages import Contact
from db.sqlite.database import SQLiteDatabase
from resolvers.flows import CreatedFlow, NewFlow, create_flows
from resolvers.task_runs import NewTaskRun, create_all_task_runs
from tests.client import PATIENCE
from tests.clock import ManualClock
from tests.storage.open_database import opened
from tests.storage.processes import HOLDS_THE_FILE, go, process

Answer = TypeVar("Answer")

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


@asynccontextmanager
async def writer_held(database: SQLiteDatabase) -> AsyncIterator[None]:
    """While this is open, so is a write transaction; what is asked for meanwhile becomes the next one."""
    entered, released = threading.Event(), threading.Event()

    def stay(connection: Connection, items: Sequence[None]) -> list[Exception | None]:
        entered.set()
        assert released.wait(PATIENCE)
        return [None for _ in items]

    staying = asyncio.create_task(database.write(stay, None))
    assert await asyncio.to_thread(entered.wait, PATIENCE)
    try:
        yield
    finally:
        released.set()
        await staying


async def until_asked(*writes: "asyncio.Task[object]") -> None:
    """Let the tasks come as far as asking for their writes."""
    await asyncio.sleep(0)
    assert not any(write.done() for write in writes)


async def answers(*writes: "asyncio.Future[Answer]") -> "list[Answer | BaseException]":
    """What came of the writes: results, and what was raised."""
    return await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), PATIENCE)


def committed_flows(path: Path) -> list[str]:
    """The names of the flows that anybody can see in the file."""
    with closing(sqlite3.connect(path)) as raw:
        return [name for (name,) in raw.execute("SELECT name FROM flow ORDER BY id")]


class Doubling:
    """An operation that doubles numbers and refuses 13; it notes what it was called with, and in which transactions."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.transactions: list[Connection] = []

    def __call__(self, connection: Connection, numbers: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(numbers))
        self.transactions.append(connection)
        return [LookupError("unlucky") if number == 13 else 2 * number for number in numbers]


def insert_and_raise(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
    """Writes, announces, and then fails."""
    create_flows(connection, [NewFlow(name) for name in names])
    connection.announce([WorkWaits("never")])
    raise ArithmeticError("it failed")


# --- together ---


async def test_writes_that_are_asked_for_at_once_share_a_transaction(database: SQLiteDatabase) -> None:
    double = Doubling()
    async with writer_held(database):
        writes = [asyncio.create_task(database.write(double, number)) for number in range(8)]
        await until_asked(*writes)

    results = await answers(*writes)

    assert results == [0, 2, 4, 6, 8, 10, 12, 14]
    assert double.calls == [[0, 1, 2, 3, 4, 5, 6, 7]]


async def test_a_write_that_nobody_joins_waits_for_nobody(database: SQLiteDatabase) -> None:
    double = Doubling()

    results = [await database.write(double, number) for number in range(3)]

    assert results == [0, 2, 4]
    assert double.calls == [[0], [1], [2]]
    assert len({id(each) for each in double.transactions}) == 3


async def test_several_items_of_one_caller_are_one_call_and_keep_their_order(database: SQLiteDatabase) -> None:
    double = Doubling()

    results = await database.write_all(double, [3, 1, 2])

    assert results == [6, 2, 4]
    assert double.calls == [[3, 1, 2]]


async def test_no_items_have_no_results(database: SQLiteDatabase) -> None:
    assert await database.write_all(Doubling(), []) == []


async def test_different_operations_share_a_transaction_too(database: SQLiteDatabase) -> None:
    double, another = Doubling(), Doubling()
    async with writer_held(database):
        writes = [
            asyncio.create_task(database.write(double, 1)),
            asyncio.create_task(database.write(another, 5)),
            asyncio.create_task(database.write(double, 2)),
        ]
        await until_asked(*writes)

    results = await answers(*writes)

    assert results == [2, 10, 4]
    assert (double.calls, another.calls) == ([[1, 2]], [[5]])
    assert double.transactions[0] is another.transactions[0]


@pytest.mark.parametrize(("sizes", "calls"), [([400, 600], [1000]), ([600, 401], [600, 401]), ([1500, 1], [1500, 1])])
async def test_a_transaction_takes_a_thousand_items_or_one_caller_s(
    database: SQLiteDatabase, sizes: list[int], calls: list[int]
) -> None:
    double = Doubling()
    async with writer_held(database):
        writes = [asyncio.create_task(database.write_all(double, [1] * size)) for size in sizes]
        await until_asked(*writes)

    results = await answers(*writes)

    assert [len(each) for each in results] == sizes
    assert [len(each) for each in double.calls] == calls


async def test_what_was_answered_can_be_seen_by_everybody(database: SQLiteDatabase, path: Path) -> None:
    await database.write(create_flows, NewFlow("a"))

    assert committed_flows(path) == ["a"]


# --- alone ---


async def test_each_caller_gets_its_own_result_or_its_own_refusal(database: SQLiteDatabase) -> None:
    double = Doubling()
    async with writer_held(database):
        writes = [asyncio.create_task(database.write(double, number)) for number in (1, 13, 2)]
        await until_asked(*writes)

    first, refused, second = await answers(*writes)

    assert (first, second) == (2, 4)
    assert isinstance(refused, LookupError)
    assert double.calls == [[1, 13, 2]]


async def test_refusals_among_several_items_are_results(database: SQLiteDatabase) -> None:
    first, refused, second = await database.write_all(Doubling(), [1, 13, 2])

    assert (first, second) == (2, 4)
    assert isinstance(refused, LookupError)


async def test_an_operation_that_fails_takes_nobody_with_it(database: SQLiteDatabase, path: Path) -> None:
    async with writer_held(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(create_flows, NewFlow("a"))),
            asyncio.create_task(database.write(insert_and_raise, "never")),
            asyncio.create_task(database.write(create_flows, NewFlow("b"))),
        ]
        await until_asked(*writes)

    first, failed, second = await answers(*writes)

    assert isinstance(first, CreatedFlow)
    assert isinstance(second, CreatedFlow)
    assert (first.created, second.created) == (True, True)
    assert isinstance(failed, ArithmeticError)
    assert committed_flows(path) == ["a", "b"]


async def test_an_item_at_which_its_operation_fails_takes_no_other_caller_s_with_it(
    database: SQLiteDatabase, path: Path
) -> None:
    def create_all_but_x(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results = create_flows(connection, [NewFlow(name) for name in names])
        if "x" in names:
            raise ArithmeticError("x")
        return results

    async with writer_held(database):
        writes = [asyncio.create_task(database.write(create_all_but_x, name)) for name in ("a", "x", "b")]
        await until_asked(*writes)

    results = await answers(*writes)

    assert [type(each) for each in results] == [CreatedFlow, ArithmeticError, CreatedFlow]
    assert committed_flows(path) == ["a", "b"]


async def test_a_row_that_names_one_that_is_not_there_is_refused_alone_and_in_our_words(
    database: SQLiteDatabase, path: Path
) -> None:
    def give_a_flow_run_a_state(connection: Connection, ids: Sequence[str]) -> list[Exception | None]:
        assert isinstance(connection, SQLiteConnection)
        row = "(:id, :id, 'PENDING', 'Pending', '2030-01-01T12:00:00.000000Z', NULL, NULL, '{}', NULL)"
        for id in ids:
            connection.raw.execute(f"INSERT INTO flow_run_state VALUES {row}", {"id": id})  # noqa: S608
        return [None for _ in ids]

    async with writer_held(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(create_flows, NewFlow("a"))),
            asyncio.create_task(database.write(give_a_flow_run_a_state, NOWHERE)),
        ]
        await until_asked(*writes)

    made, refused = await answers(*writes)

    assert isinstance(made, CreatedFlow)
    assert isinstance(refused, BrokenReference)
    assert committed_flows(path) == ["a"]


async def test_the_writer_goes_on_after_a_failure(database: SQLiteDatabase, path: Path) -> None:
    with pytest.raises(ArithmeticError):
        await database.write(insert_and_raise, "never")

    await database.write(create_flows, NewFlow("a"))

    assert committed_flows(path) == ["a"]


async def test_a_caller_that_is_cancelled_has_its_write_done_all_the_same(database: SQLiteDatabase, path: Path) -> None:
    async with writer_held(database):
        cancelled = asyncio.create_task(database.write(create_flows, NewFlow("a")))
        other = asyncio.create_task(database.write(create_flows, NewFlow("b")))
        await until_asked(cancelled, other)
        cancelled.cancel()

    (made,) = await answers(other)

    assert cancelled.cancelled()
    assert isinstance(made, CreatedFlow)
    assert committed_flows(path) == ["a", "b"]


# --- savepoints and notices ---


async def test_notices_are_heard_once_and_after_the_commit(database: SQLiteDatabase, path: Path) -> None:
    heard: list[tuple[list[Notice], list[str]]] = []
    database.listen(lambda notices: heard.append((list(notices), committed_flows(path))))

    def create_and_announce(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        connection.announce([WorkWaits(name) for name in names])
        return create_flows(connection, [NewFlow(name) for name in names])

    async with writer_held(database):
        writes = [asyncio.create_task(database.write(create_and_announce, name)) for name in ("a", "b")]
        await until_asked(*writes)
        assert heard == []

    await answers(*writes)
    await database.write(create_flows, NewFlow("c"))

    assert heard == [([WorkWaits("a"), WorkWaits("b")], ["a", "b"])]


async def test_nobody_hears_of_what_was_rolled_back(database: SQLiteDatabase) -> None:
    heard: list[Notice] = []
    database.listen(heard.extend)

    def settle(connection: Connection, leases: Sequence[str]) -> list[Exception | None]:
        connection.announce(LeaseSettled(lease) for lease in leases)
        return [None for _ in leases]

    async with writer_held(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(settle, "a")),
            asyncio.create_task(database.write(insert_and_raise, "never")),
            asyncio.create_task(database.write(settle, "b")),
        ]
        await until_asked(*writes)

    await answers(*writes)

    assert heard == [LeaseSettled("a"), LeaseSettled("b")]


async def test_every_listener_hears_everything(database: SQLiteDatabase) -> None:
    heard: list[list[Notice]] = [[], []]
    for each in heard:
        database.listen(each.extend)

    def announce(connection: Connection, keys: Sequence[str]) -> list[Exception | None]:
        connection.announce(WorkWaits(key) for key in keys)
        return [None for _ in keys]

    await database.write(announce, "a")

    assert heard == [[WorkWaits("a")], [WorkWaits("a")]]


async def test_a_part_that_fails_is_undone_with_its_notices_and_the_rest_is_kept(
    database: SQLiteDatabase, path: Path
) -> None:
    heard: list[Notice] = []
    database.listen(heard.extend)

    def create_each(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results: list[CreatedFlow | Exception] = []
        for name in names:
            try:
                with connection.savepoint():
                    connection.announce([WorkWaits(name)])
                    results += create_flows(connection, [NewFlow(name)])
                    if name == "x":
                        raise LookupError(name)
            except LookupError as error:
                results[-1] = error
        return results

    results = await database.write_all(create_each, ["a", "x", "b"])

    assert [type(each) for each in results] == [CreatedFlow, LookupError, CreatedFlow]
    assert committed_flows(path) == ["a", "b"]
    assert heard == [WorkWaits("a"), WorkWaits("b")]


async def test_of_two_batches_in_one_transaction_the_refused_one_leaves_nothing(
    database: SQLiteDatabase, path: Path
) -> None:
    good = [NewTaskRun("t", "1"), NewTaskRun("t", "2")]
    bad = [NewTaskRun("t", "3"), NewTaskRun("t", "4", flow_run_id=NOWHERE)]

    made, refused = await database.write_all(create_all_task_runs, [good, bad])

    assert isinstance(made, list)
    assert isinstance(refused, Exception)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT dynamic_key FROM task_run ORDER BY id").fetchall() == [("1",), ("2",)]
        assert raw.execute("SELECT count(*) FROM task_run_state").fetchone() == (2,)


# --- reading meanwhile ---


async def test_reading_does_not_wait_for_a_write(database: SQLiteDatabase) -> None:
    await database.write(create_flows, NewFlow("a"))

    async with writer_held(database):
        write = asyncio.create_task(database.write(create_flows, NewFlow("b")))
        count = await asyncio.wait_for(database.read(count_flows), PATIENCE / 2)
        assert not write.done()

    await write
    assert count == 1
    assert await database.read(count_flows) == 2


async def test_a_write_that_is_not_committed_can_not_be_read(database: SQLiteDatabase) -> None:
    entered, released = threading.Event(), threading.Event()

    def create_and_stay(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results = create_flows(connection, [NewFlow(name) for name in names])
        entered.set()
        assert released.wait(PATIENCE)
        return results

    write = asyncio.create_task(database.write(create_and_stay, "a"))
    assert await asyncio.to_thread(entered.wait, PATIENCE)
    before = await database.read(count_flows)
    released.set()
    await write

    assert before == 0
    assert await database.read(count_flows) == 1


async def test_all_that_one_reading_sees_is_of_one_moment(database: SQLiteDatabase) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[int, int]:
        first = count_flows(connection)
        looked.set()
        assert written.wait(PATIENCE)
        return first, count_flows(connection)

    reading = asyncio.create_task(database.read(look_twice))
    assert await asyncio.to_thread(looked.wait, PATIENCE)
    await database.write(create_flows, NewFlow("a"))
    written.set()

    assert await reading == (0, 0)
    assert await database.read(count_flows) == 1


async def test_reading_writes_nothing(database: SQLiteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(lambda connection: create_flows(connection, [NewFlow("a")]))

    assert await database.read(count_flows) == 0


def count_flows(connection: Connection) -> int:
    assert isinstance(connection, SQLiteConnection)
    ((count,),) = connection.raw.execute("SELECT count(*) FROM flow").fetchall()
    return count


# --- other processes ---


async def test_a_file_that_another_process_holds_too_long_is_unavailable_and_nothing_is_written(path: Path) -> None:
    async with opened(path, busy_seconds=0.05) as database:
        with process(HOLDS_THE_FILE, path):
            with pytest.raises(DatabaseUnavailable):
                await database.write(create_flows, NewFlow("a"))
            assert await database.read(count_flows) == 0

        made = await database.write(create_flows, NewFlow("b"))

    assert made.created is True
    assert committed_flows(path) == ["b"]


async def test_a_file_that_another_process_lets_go_in_time_is_waited_for(path: Path) -> None:
    async with opened(path, busy_seconds=PATIENCE) as database:
        with process(HOLDS_THE_FILE, path) as other:
            write = asyncio.create_task(database.write(create_flows, NewFlow("a")))
            await until_asked(write)
            go(other)
            made = await write

    assert made.created is True
    assert committed_flows(path) == ["a"]


async def test_all_who_wait_for_a_held_file_are_told_after_one_wait(path: Path) -> None:
    busy_seconds = 0.2
    async with opened(path, busy_seconds=busy_seconds) as database:
        with process(HOLDS_THE_FILE, path):
            writes = [asyncio.create_task(database.write(create_flows, NewFlow(str(name)))) for name in range(20)]
            # One wait is 0.2 s, twenty are 4 s.
            refusals = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10 * busy_seconds)

    assert [type(each) for each in refusals] == [DatabaseUnavailable] * 20
    assert committed_flows(path) == []


# --- closing ---


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    async with opened(path) as database:
        async with writer_held(database):
            writes = [asyncio.create_task(database.write(create_flows, NewFlow(name))) for name in ("a", "b")]
            await until_asked(*writes)
            closing_database = asyncio.create_task(database.close())
            await until_asked(closing_database)

        await answers(closing_database)

    assert [each.created for each in await answers(*writes) if isinstance(each, CreatedFlow)] == [True, True]
    assert committed_flows(path) == ["a", "b"]


async def test_a_closing_database_takes_no_more_writes(path: Path) -> None:
    async with opened(path) as database:
        async with writer_held(database):
            closing_database = asyncio.create_task(database.close())
            await until_asked(closing_database)
            with pytest.raises(DatabaseUnavailable):
                await database.write(create_flows, NewFlow("a"))

        await answers(closing_database)

        with pytest.raises(DatabaseUnavailable):
            await database.write(create_flows, NewFlow("b"))
    assert committed_flows(path) == []


async def test_a_closed_database_can_not_be_read(path: Path) -> None:
    async with opened(path) as database:
        await database.close()

        with pytest.raises(DatabaseUnavailable):
            await database.read(count_flows)


# --- durability ---


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
async def test_the_writer_writes_ahead_syncs_each_commit_and_keeps_references_whole(
    database: SQLiteDatabase, pragma: str, value: object
) -> None:
    def look(connection: Connection, pragmas: Sequence[str]) -> list[object | Exception]:
        assert isinstance(connection, SQLiteConnection)
        return [connection.raw.execute(f"PRAGMA {each}").fetchone()[0] for each in pragmas]

    assert await database.write(look, pragma) == value


async def test_a_database_that_is_opened_again_has_all_that_was_answered(path: Path) -> None:
    async with opened(path) as first:
        await first.write(create_flows, NewFlow("a"))

    async with opened(path) as second:
        again = await second.write(create_flows, NewFlow("a"))

    assert again.created is False
    assert committed_flows(path) == ["a"]


async def test_a_database_that_goes_away_while_requests_are_tried_by_themselves_is_asked_once() -> None:
    asked: list[int] = []

    async def carry_out(batch: list[Request]) -> Outcomes:
        asked.append(len(batch))
        if len(batch) > 1:
            raise ValueError("One of them is at fault.")
        if len(asked) == 2:
            return [["written"]], []
        raise DatabaseUnavailable("It does not answer in time.")

    batches = WriteBatches(carry_out, Contact(ManualClock()), lanes=1)
    writes = [asyncio.create_task(batches.write_all(create_flows, [NewFlow("f")])) for _ in range(5)]
    found = await answers(*writes)
    await batches.close()

    assert found[0] == ["written"]
    assert [type(each) for each in found[1:]] == [DatabaseUnavailable] * 4
    assert asked == [5, 1, 1]
