"""Group commit: concurrent writes share a transaction, and a failing write affects no other."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from db.connection import Connection, LeaseSettled, Notification, SQLiteConnection, WorkAvailable
from db.errors import BrokenReference, DatabaseUnavailable
from db.group_commit import BatchOutcome, GroupCommit, LockWait, PendingWrite
from db.outages import MAX_SILENCE_SECONDS, OutageTracker
from db.sqlite.database import SQLiteDatabase
from resolvers.flows import CreatedFlow, NewFlow, create_flows
from resolvers.task_runs import NewTaskRun, create_all_task_runs
from tests.builders.ids import UNKNOWN_ID
from tests.client import TIMEOUT_SECONDS
from tests.clock import ManualClock
from tests.storage.open_database import open_database
from tests.storage.processes import HOLD_WRITE_LOCK, python_process, resume

Outcome = TypeVar("Outcome")


@asynccontextmanager
async def hold_writer(database: SQLiteDatabase) -> AsyncIterator[None]:
    """Hold a write transaction open. Writes started in the block are queued for the next transaction."""
    entered, released = threading.Event(), threading.Event()

    def hold(connection: Connection, items: Sequence[None]) -> list[Exception | None]:
        entered.set()
        assert released.wait(TIMEOUT_SECONDS)
        return [None for _ in items]

    holding = asyncio.create_task(database.write(hold, None))
    assert await asyncio.to_thread(entered.wait, TIMEOUT_SECONDS)
    try:
        yield
    finally:
        released.set()
        await holding


async def until_queued(*writes: "asyncio.Task[object]") -> None:
    """Let the tasks run until their writes are queued."""
    await asyncio.sleep(0)
    assert not any(write.done() for write in writes)


async def results_of(*writes: "asyncio.Future[Outcome]") -> "list[Outcome | BaseException]":
    """Wait for the writes and return their results and exceptions."""
    return await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), TIMEOUT_SECONDS)


def committed_flows(path: Path) -> list[str]:
    """Return the names of the committed flows."""
    with closing(sqlite3.connect(path)) as raw:
        return [name for (name,) in raw.execute("SELECT name FROM flow ORDER BY id")]


class Doubling:
    """An operation that doubles numbers and refuses 13. It records its calls and their transactions."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.transactions: list[Connection] = []

    def __call__(self, connection: Connection, numbers: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(numbers))
        self.transactions.append(connection)
        return [LookupError("unlucky") if number == 13 else 2 * number for number in numbers]


def insert_and_raise(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
    """Write, notify, and then fail."""
    create_flows(connection, [NewFlow(name) for name in names])
    connection.notify([WorkAvailable("never")])
    raise ArithmeticError("it failed")


async def test_concurrent_writes_share_a_transaction(database: SQLiteDatabase) -> None:
    double = Doubling()
    async with hold_writer(database):
        writes = [asyncio.create_task(database.write(double, number)) for number in range(8)]
        await until_queued(*writes)

    results = await results_of(*writes)

    assert results == [0, 2, 4, 6, 8, 10, 12, 14]
    assert double.calls == [[0, 1, 2, 3, 4, 5, 6, 7]]


async def test_sequential_writes_use_separate_transactions(database: SQLiteDatabase) -> None:
    double = Doubling()

    results = [await database.write(double, number) for number in range(3)]

    assert results == [0, 2, 4]
    assert double.calls == [[0], [1], [2]]
    assert len({id(each) for each in double.transactions}) == 3


async def test_items_of_one_caller_are_one_call_in_order(database: SQLiteDatabase) -> None:
    double = Doubling()

    results = await database.write_all(double, [3, 1, 2])

    assert results == [6, 2, 4]
    assert double.calls == [[3, 1, 2]]


async def test_a_write_without_items_returns_no_results(database: SQLiteDatabase) -> None:
    assert await database.write_all(Doubling(), []) == []


async def test_different_operations_share_a_transaction(database: SQLiteDatabase) -> None:
    double, another = Doubling(), Doubling()
    async with hold_writer(database):
        writes = [
            asyncio.create_task(database.write(double, 1)),
            asyncio.create_task(database.write(another, 5)),
            asyncio.create_task(database.write(double, 2)),
        ]
        await until_queued(*writes)

    results = await results_of(*writes)

    assert results == [2, 10, 4]
    assert (double.calls, another.calls) == ([[1, 2]], [[5]])
    assert double.transactions[0] is another.transactions[0]


@pytest.mark.parametrize(("sizes", "calls"), [([400, 600], [1000]), ([600, 401], [600, 401]), ([1500, 1], [1500, 1])])
async def test_a_transaction_takes_a_thousand_items_or_one_larger_call(
    database: SQLiteDatabase, sizes: list[int], calls: list[int]
) -> None:
    double = Doubling()
    async with hold_writer(database):
        writes = [asyncio.create_task(database.write_all(double, [1] * size)) for size in sizes]
        await until_queued(*writes)

    results = await results_of(*writes)

    assert [len(each) for each in results] == sizes
    assert [len(each) for each in double.calls] == calls


async def test_a_confirmed_write_is_visible_to_other_connections(database: SQLiteDatabase, path: Path) -> None:
    await database.write(create_flows, NewFlow("a"))

    assert committed_flows(path) == ["a"]


async def test_each_caller_gets_its_own_result_or_refusal(database: SQLiteDatabase) -> None:
    double = Doubling()
    async with hold_writer(database):
        writes = [asyncio.create_task(database.write(double, number)) for number in (1, 13, 2)]
        await until_queued(*writes)

    first, refused, second = await results_of(*writes)

    assert (first, second) == (2, 4)
    assert isinstance(refused, LookupError)
    assert double.calls == [[1, 13, 2]]


async def test_refusals_of_single_items_are_returned_as_results(database: SQLiteDatabase) -> None:
    first, refused, second = await database.write_all(Doubling(), [1, 13, 2])

    assert (first, second) == (2, 4)
    assert isinstance(refused, LookupError)


async def test_a_failing_operation_affects_no_other_operation(database: SQLiteDatabase, path: Path) -> None:
    async with hold_writer(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(create_flows, NewFlow("a"))),
            asyncio.create_task(database.write(insert_and_raise, "never")),
            asyncio.create_task(database.write(create_flows, NewFlow("b"))),
        ]
        await until_queued(*writes)

    first, failed, second = await results_of(*writes)

    assert isinstance(first, CreatedFlow)
    assert isinstance(second, CreatedFlow)
    assert (first.created, second.created) == (True, True)
    assert isinstance(failed, ArithmeticError)
    assert committed_flows(path) == ["a", "b"]


async def test_a_failing_item_affects_no_item_of_another_caller(database: SQLiteDatabase, path: Path) -> None:
    def create_all_but_x(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results = create_flows(connection, [NewFlow(name) for name in names])
        if "x" in names:
            raise ArithmeticError("x")
        return results

    async with hold_writer(database):
        writes = [asyncio.create_task(database.write(create_all_but_x, name)) for name in ("a", "x", "b")]
        await until_queued(*writes)

    results = await results_of(*writes)

    assert [type(each) for each in results] == [CreatedFlow, ArithmeticError, CreatedFlow]
    assert committed_flows(path) == ["a", "b"]


async def test_a_broken_reference_fails_alone_with_our_own_error(database: SQLiteDatabase, path: Path) -> None:
    def give_a_flow_run_a_state(connection: Connection, ids: Sequence[str]) -> list[Exception | None]:
        assert isinstance(connection, SQLiteConnection)
        row = "(:id, :id, 'PENDING', 'Pending', '2030-01-01T12:00:00.000000Z', NULL, NULL, '{}', NULL, NULL)"
        for id in ids:
            connection.raw.execute(f"INSERT INTO flow_run_state VALUES {row}", {"id": id})  # noqa: S608
        return [None for _ in ids]

    async with hold_writer(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(create_flows, NewFlow("a"))),
            asyncio.create_task(database.write(give_a_flow_run_a_state, UNKNOWN_ID)),
        ]
        await until_queued(*writes)

    created, refused = await results_of(*writes)

    assert isinstance(created, CreatedFlow)
    assert isinstance(refused, BrokenReference)
    assert committed_flows(path) == ["a"]


async def test_the_writer_continues_after_a_failure(database: SQLiteDatabase, path: Path) -> None:
    with pytest.raises(ArithmeticError):
        await database.write(insert_and_raise, "never")

    await database.write(create_flows, NewFlow("a"))

    assert committed_flows(path) == ["a"]


async def test_the_write_of_a_cancelled_caller_is_still_committed(database: SQLiteDatabase, path: Path) -> None:
    async with hold_writer(database):
        cancelled = asyncio.create_task(database.write(create_flows, NewFlow("a")))
        other = asyncio.create_task(database.write(create_flows, NewFlow("b")))
        await until_queued(cancelled, other)
        cancelled.cancel()

    (created,) = await results_of(other)

    assert cancelled.cancelled()
    assert isinstance(created, CreatedFlow)
    assert committed_flows(path) == ["a", "b"]


async def test_notifications_are_sent_once_and_after_the_commit(database: SQLiteDatabase, path: Path) -> None:
    received: list[tuple[list[Notification], list[str]]] = []
    database.listen(lambda notifications: received.append((list(notifications), committed_flows(path))))

    def create_and_notify(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        connection.notify([WorkAvailable(name) for name in names])
        return create_flows(connection, [NewFlow(name) for name in names])

    async with hold_writer(database):
        writes = [asyncio.create_task(database.write(create_and_notify, name)) for name in ("a", "b")]
        await until_queued(*writes)
        assert received == []

    await results_of(*writes)
    await database.write(create_flows, NewFlow("c"))

    assert received == [([WorkAvailable("a"), WorkAvailable("b")], ["a", "b"])]


async def test_rolled_back_notifications_are_not_sent(database: SQLiteDatabase) -> None:
    received: list[Notification] = []
    database.listen(received.extend)

    def settle(connection: Connection, leases: Sequence[str]) -> list[Exception | None]:
        connection.notify(LeaseSettled(lease) for lease in leases)
        return [None for _ in leases]

    async with hold_writer(database):
        writes: list[asyncio.Task[object]] = [
            asyncio.create_task(database.write(settle, "a")),
            asyncio.create_task(database.write(insert_and_raise, "never")),
            asyncio.create_task(database.write(settle, "b")),
        ]
        await until_queued(*writes)

    await results_of(*writes)

    assert received == [LeaseSettled("a"), LeaseSettled("b")]


async def test_every_listener_receives_every_notification(database: SQLiteDatabase) -> None:
    received: list[list[Notification]] = [[], []]
    for each in received:
        database.listen(each.extend)

    def notify(connection: Connection, keys: Sequence[str]) -> list[Exception | None]:
        connection.notify(WorkAvailable(key) for key in keys)
        return [None for _ in keys]

    await database.write(notify, "a")

    assert received == [[WorkAvailable("a")], [WorkAvailable("a")]]


async def test_a_rolled_back_savepoint_discards_its_writes_and_notifications_only(
    database: SQLiteDatabase, path: Path
) -> None:
    received: list[Notification] = []
    database.listen(received.extend)

    def create_each(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results: list[CreatedFlow | Exception] = []
        for name in names:
            try:
                with connection.savepoint():
                    connection.notify([WorkAvailable(name)])
                    results += create_flows(connection, [NewFlow(name)])
                    if name == "x":
                        raise LookupError(name)
            except LookupError as error:
                results[-1] = error
        return results

    results = await database.write_all(create_each, ["a", "x", "b"])

    assert [type(each) for each in results] == [CreatedFlow, LookupError, CreatedFlow]
    assert committed_flows(path) == ["a", "b"]
    assert received == [WorkAvailable("a"), WorkAvailable("b")]


async def test_a_refused_batch_writes_nothing_beside_a_committed_batch(database: SQLiteDatabase, path: Path) -> None:
    good = [NewTaskRun("t", "1"), NewTaskRun("t", "2")]
    bad = [NewTaskRun("t", "3"), NewTaskRun("t", "4", flow_run_id=UNKNOWN_ID)]

    created, refused = await database.write_all(create_all_task_runs, [good, bad])

    assert isinstance(created, list)
    assert isinstance(refused, Exception)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT dynamic_key FROM task_run ORDER BY id").fetchall() == [("1",), ("2",)]
        assert raw.execute("SELECT count(*) FROM task_run_state").fetchone() == (2,)


async def test_reads_do_not_wait_for_writes(database: SQLiteDatabase) -> None:
    await database.write(create_flows, NewFlow("a"))

    async with hold_writer(database):
        write = asyncio.create_task(database.write(create_flows, NewFlow("b")))
        count = await asyncio.wait_for(database.read(count_flows), TIMEOUT_SECONDS / 2)
        assert not write.done()

    await write
    assert count == 1
    assert await database.read(count_flows) == 2


async def test_uncommitted_writes_are_not_visible(database: SQLiteDatabase) -> None:
    entered, released = threading.Event(), threading.Event()

    def create_and_hold(connection: Connection, names: Sequence[str]) -> list[CreatedFlow | Exception]:
        results = create_flows(connection, [NewFlow(name) for name in names])
        entered.set()
        assert released.wait(TIMEOUT_SECONDS)
        return results

    write = asyncio.create_task(database.write(create_and_hold, "a"))
    assert await asyncio.to_thread(entered.wait, TIMEOUT_SECONDS)
    before = await database.read(count_flows)
    released.set()
    await write

    assert before == 0
    assert await database.read(count_flows) == 1


async def test_a_read_sees_one_consistent_snapshot(database: SQLiteDatabase) -> None:
    has_read, written = threading.Event(), threading.Event()

    def read_twice(connection: Connection) -> tuple[int, int]:
        first = count_flows(connection)
        has_read.set()
        assert written.wait(TIMEOUT_SECONDS)
        return first, count_flows(connection)

    reading = asyncio.create_task(database.read(read_twice))
    assert await asyncio.to_thread(has_read.wait, TIMEOUT_SECONDS)
    await database.write(create_flows, NewFlow("a"))
    written.set()

    assert await reading == (0, 0)
    assert await database.read(count_flows) == 1


async def test_a_read_cannot_write(database: SQLiteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(lambda connection: create_flows(connection, [NewFlow("a")]))

    assert await database.read(count_flows) == 0


def count_flows(connection: Connection) -> int:
    assert isinstance(connection, SQLiteConnection)
    ((count,),) = connection.raw.execute("SELECT count(*) FROM flow").fetchall()
    return count


async def test_a_file_locked_too_long_is_unavailable_and_nothing_is_written(path: Path) -> None:
    async with open_database(path, busy_seconds=0.05) as database:
        with python_process(HOLD_WRITE_LOCK, path):
            with pytest.raises(DatabaseUnavailable):
                await database.write(create_flows, NewFlow("a"))
            assert await database.read(count_flows) == 0

        created = await database.write(create_flows, NewFlow("b"))

    assert created.created is True
    assert committed_flows(path) == ["b"]


async def test_a_write_waits_for_a_lock_released_in_time(path: Path) -> None:
    async with open_database(path, busy_seconds=TIMEOUT_SECONDS) as database:
        with python_process(HOLD_WRITE_LOCK, path) as other:
            write = asyncio.create_task(database.write(create_flows, NewFlow("a")))
            await until_queued(write)
            resume(other)
            created = await write

    assert created.created is True
    assert committed_flows(path) == ["a"]


async def test_all_writes_waiting_for_a_locked_file_fail_after_one_wait(path: Path) -> None:
    busy_seconds = 0.2
    async with open_database(path, busy_seconds=busy_seconds) as database:
        with python_process(HOLD_WRITE_LOCK, path):
            writes = [asyncio.create_task(database.write(create_flows, NewFlow(str(name)))) for name in range(20)]
            # One wait takes 0.2 s, twenty take 4 s.
            refusals = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10 * busy_seconds)

    assert [type(each) for each in refusals] == [DatabaseUnavailable] * 20
    assert committed_flows(path) == []


async def test_closing_finishes_queued_writes(path: Path) -> None:
    async with open_database(path) as database:
        async with hold_writer(database):
            writes = [asyncio.create_task(database.write(create_flows, NewFlow(name))) for name in ("a", "b")]
            await until_queued(*writes)
            closing_database = asyncio.create_task(database.close())
            await until_queued(closing_database)

        await results_of(closing_database)

    assert [each.created for each in await results_of(*writes) if isinstance(each, CreatedFlow)] == [True, True]
    assert committed_flows(path) == ["a", "b"]


async def test_a_closing_database_rejects_new_writes(path: Path) -> None:
    async with open_database(path) as database:
        async with hold_writer(database):
            closing_database = asyncio.create_task(database.close())
            await until_queued(closing_database)
            with pytest.raises(DatabaseUnavailable):
                await database.write(create_flows, NewFlow("a"))

        await results_of(closing_database)

        with pytest.raises(DatabaseUnavailable):
            await database.write(create_flows, NewFlow("b"))
    assert committed_flows(path) == []


async def test_a_closed_database_cannot_be_read(path: Path) -> None:
    async with open_database(path) as database:
        await database.close()

        with pytest.raises(DatabaseUnavailable):
            await database.read(count_flows)


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
async def test_the_writer_uses_wal_full_sync_and_foreign_keys(
    database: SQLiteDatabase, pragma: str, value: object
) -> None:
    def read_pragmas(connection: Connection, pragmas: Sequence[str]) -> list[object | Exception]:
        assert isinstance(connection, SQLiteConnection)
        return [connection.raw.execute(f"PRAGMA {each}").fetchone()[0] for each in pragmas]

    assert await database.write(read_pragmas, pragma) == value


async def test_a_reopened_database_contains_all_confirmed_writes(path: Path) -> None:
    async with open_database(path) as first:
        await first.write(create_flows, NewFlow("a"))

    async with open_database(path) as second:
        again = await second.write(create_flows, NewFlow("a"))

    assert again.created is False
    assert committed_flows(path) == ["a"]


async def test_an_outage_during_individual_retries_fails_the_remaining_writes_at_once() -> None:
    batch_sizes: list[int] = []

    async def execute_batch(batch: list[PendingWrite], _lock_wait: LockWait) -> BatchOutcome:
        batch_sizes.append(len(batch))
        if len(batch) > 1:
            raise ValueError("One of them is at fault.")
        if len(batch_sizes) == 2:
            return [["written"]], []
        raise DatabaseUnavailable("It does not answer in time.")

    batches = GroupCommit(execute_batch, OutageTracker(ManualClock(), MAX_SILENCE_SECONDS), writers=1)
    writes = [asyncio.create_task(batches.write_all(create_flows, [NewFlow("f")])) for _ in range(5)]
    found = await results_of(*writes)
    await batches.close()

    assert found[0] == ["written"]
    assert [type(each) for each in found[1:]] == [DatabaseUnavailable] * 4
    assert batch_sizes == [5, 1, 1]
