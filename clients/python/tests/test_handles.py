"""Handles: status, result, cancel and delete of task runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from raw_worker import RawWorker, raw_worker
from runyard_client import NoResult, Runyard, TaskCancelled, TaskDeleted, TaskFailed
from runyard_client.testing.server import RunyardServer

UNKNOWN_ID = "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10"


class AwayError(Exception):
    """An error of a task that callers know."""


@pytest.fixture
async def runyard(server_on: RunyardServer) -> AsyncIterator[Runyard]:
    app = Runyard(server_on.url)
    yield app
    await app.close()


@pytest.fixture
def day(runyard: Runyard, unique_key: Callable[[str], str]) -> Any:
    @runyard.task(key=unique_key("day"), raises=(AwayError,))
    async def day(number: int) -> datetime:
        return datetime.fromtimestamp(number, UTC)

    return day


@pytest.fixture
async def worker(server_on: RunyardServer, day: Any) -> AsyncIterator[RawWorker]:
    async with raw_worker(server_on.url, day.key) as opened:
        yield opened


async def test_the_status_follows_the_run(day: Any, worker: RawWorker) -> None:
    handle = await day.with_(delay=0).enqueue(1)
    scheduled = await handle.status()
    deliveries = await worker.claim()
    running = await handle.status()
    await worker.end(deliveries, type="COMPLETED", data={"result": None})
    completed = await handle.status()

    assert (scheduled.type, running.type, completed.type) == ("SCHEDULED", "RUNNING", "COMPLETED")
    assert (scheduled.run_count, running.run_count) == (0, 1)
    assert (scheduled.has_ended, running.has_ended, completed.has_ended) == (False, False, True)
    assert scheduled.due_at is not None
    assert (running.due_at, running.ended_at) == (None, None)
    assert running.started_at is not None
    assert completed.ended_at is not None
    assert scheduled.due_at <= running.started_at <= completed.ended_at


async def test_the_status_has_the_progress(
    server_on: RunyardServer, runyard: Runyard, day: Any, worker: RawWorker
) -> None:
    handle = await day.enqueue(1)
    (delivery,) = await worker.claim()
    transport = runyard.make_transport()
    report = {"leaseId": delivery["leaseId"], "done": 3, "total": 8, "message": "third"}
    await transport.execute("ReportTaskRunProgress", {"reports": [report]})
    await transport.close()

    progress = (await handle.status()).progress

    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3.0, 8.0, "third")


async def test_a_result_has_the_type_that_the_task_returns(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    await worker.complete(result="1970-01-01T00:00:00Z")

    assert await handle.result(30) == datetime(1970, 1, 1, tzinfo=UTC)
    assert await handle.result() == datetime(1970, 1, 1, tzinfo=UTC)


async def test_a_handle_without_its_task_returns_plain_json(runyard: Runyard, day: Any, worker: RawWorker) -> None:
    handle = runyard.handle((await day.enqueue(0)).id)
    await worker.complete(result={"a": [1]})

    assert await handle.result(30) == {"a": [1]}


async def test_a_result_that_comes_later_is_waited_for(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    result = asyncio.create_task(handle.result(30))
    deliveries = await worker.claim()
    assert not result.done()
    await worker.end(deliveries, type="COMPLETED", data={"result": "1970-01-01T00:00:00Z"})

    assert await result == datetime(1970, 1, 1, tzinfo=UTC)


async def test_a_failure_is_raised_with_the_error_of_the_worker(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    error = {
        "type": "shop.Broken",
        "message": "no",
        "traceback": "line 7",
        "attempt": 1,
        "worker": "w",
        "retriable": False,
    }
    await worker.end(await worker.claim(), type="FAILED", message="Broken: no", data={"error": error})

    with pytest.raises(TaskFailed) as raised:
        await handle.result(30)

    failure = raised.value
    assert (failure.error_type, failure.run_id, failure.crashed) == ("shop.Broken", handle.id, False)
    assert any("line 7" in note for note in failure.__notes__)


async def test_a_failure_is_raised_as_the_class_that_the_task_lists(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    error = {"type": f"{AwayError.__module__}.AwayError", "message": "gone"}
    await worker.end(await worker.claim(), type="FAILED", message="AwayError: gone", data={"error": error})

    with pytest.raises(AwayError, match="gone") as raised:
        await handle.result(30)

    assert isinstance(raised.value.__cause__, TaskFailed)


async def test_a_crash_is_a_failure(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    await worker.end(await worker.claim(), type="CRASHED", message="The worker was lost.")

    with pytest.raises(TaskFailed, match=r"^The worker was lost\.$") as raised:
        await handle.result(30)

    assert raised.value.crashed


async def test_a_run_that_waits_for_a_retry_has_not_ended(day: Any, worker: RawWorker) -> None:
    handle = await day.with_(retries=1, retry_delays=3600).enqueue(0)
    await worker.end(await worker.claim(), type="FAILED", message="once")

    with pytest.raises(TimeoutError):
        await handle.result(0.05)

    assert (await handle.status()).name == "AwaitingRetry"


async def test_a_cancelled_run_has_no_result(day: Any) -> None:
    handle = await day.enqueue(0)
    status = await handle.cancel()

    assert status.type == "CANCELLED"
    with pytest.raises(TaskCancelled):
        await handle.result(30)


async def test_a_running_run_is_cancelled_by_its_worker(day: Any, worker: RawWorker, runyard: Runyard) -> None:
    handle = await day.enqueue(0)
    deliveries = await worker.claim()
    transport = runyard.make_transport()
    await transport.execute("RenewTaskRunLeases", {"leaseIds": [deliveries[0]["leaseId"]]})
    await transport.close()

    assert (await handle.cancel()).type == "CANCELLING"
    assert (await handle.cancel(wait=0.05)).type == "CANCELLING"
    waiting = asyncio.create_task(handle.cancel(wait=30))
    await worker.end(deliveries, type="CANCELLED")

    assert (await waiting).type == "CANCELLED"


async def test_cancelling_a_run_that_was_faster_returns_its_state(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    await worker.complete(result="1970-01-01T00:00:00Z")

    assert (await handle.cancel(wait=30)).type == "COMPLETED"


async def test_a_discarded_result_is_no_result(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    await worker.end(await worker.claim(), type="COMPLETED", data={"discarded": True})

    with pytest.raises(NoResult):
        await handle.result(30)


async def test_a_deleted_run_is_an_error(day: Any) -> None:
    handle = await day.enqueue(0)
    await handle.delete()
    await handle.delete()

    for operation in (handle.status(), handle.result(30), handle.wait(30), handle.cancel(wait=30)):
        with pytest.raises(TaskDeleted, match=handle.id):
            await operation


async def test_a_run_that_is_deleted_while_it_is_waited_for_is_an_error(day: Any) -> None:
    handle = await day.enqueue(0)
    result = asyncio.create_task(handle.result(30))
    with pytest.raises(TimeoutError):
        await handle.wait(0.05)
    await handle.delete()

    with pytest.raises(TaskDeleted, match=handle.id):
        await result


async def test_waiting_returns_the_status(day: Any, worker: RawWorker) -> None:
    handle = await day.enqueue(0)
    await worker.complete()

    assert (await handle.wait(30)).type == "COMPLETED"


@pytest.mark.parametrize("id", ["", "abc", None, 7])
def test_an_id_that_is_no_uuid_is_refused(id: Any) -> None:
    with pytest.raises(ValueError, match=r"^`id` must be the UUID of a task run; got "):
        Runyard().handle(id)


async def test_an_unknown_id_is_a_deleted_run(runyard: Runyard) -> None:
    with pytest.raises(TaskDeleted):
        await runyard.handle(UNKNOWN_ID).result(30)
