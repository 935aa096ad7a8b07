"""`current_run()`: the run of the calling code, its cancellation and its progress."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from runyard_client.context import ExecutorState, Run, current_run, read_time, use_run
from runyard_client.errors import Cancelled, NoRun

DELIVERED = {
    "id": "b2f7",
    "name": "amber-otter",
    "taskKey": "send-mail",
    "parameters": {"to": "ada@example.org"},
    "runCount": 2,
    "tags": ["mail"],
    "createdAt": "2026-11-30T12:00:00+00:00",
    "traceParent": "00-1-2-01",
}


def test_there_is_no_run_outside_of_one():
    with pytest.raises(NoRun, match="current_run"):
        current_run()
    assert current_run(None) is None


def test_a_block_has_its_run_and_restores_the_previous_one():
    outer, inner = Run("outer"), Run("inner")

    with use_run(outer):
        with use_run(inner):
            assert current_run() is inner
        assert current_run(None) is outer


def test_a_delivered_run_has_its_attributes():
    run = Run.from_delivery(DELIVERED, delivery=3, worker="mill")

    assert (run.id, run.name, run.key, run.run_count, run.delivery) == ("b2f7", "amber-otter", "send-mail", 2, 3)
    assert (run.tags, run.created) == (("mail",), datetime(2026, 11, 30, 12, tzinfo=UTC))
    assert (run.parameters, run.trace_parent) == ({"to": "ada@example.org"}, "00-1-2-01")
    assert (run.cancelled, run.draining, run.state) == (False, False, None)
    assert run.logger.name == "send-mail"


def test_a_run_that_need_not_stop_passes_check():
    Run("x").check()


@pytest.mark.parametrize("reason", ["cancelled", "timeout", "lease_lost", "lease_ended", "drained"])
def test_a_run_that_must_stop_raises_cancelled_at_check(reason):
    run = Run("x", name="amber-otter")
    run.request_stop(reason)

    assert run.cancelled
    with pytest.raises(Cancelled, match=f"amber-otter must stop: {reason}"):
        run.check()


def test_the_first_reason_stays_unless_the_lease_is_lost():
    run = Run("x")

    run.request_stop("timeout")
    run.request_stop("cancelled")
    assert run.cancel_reason == "timeout"
    run.request_stop("lease_lost")
    assert run.cancel_reason == "lease_lost"


def test_sleep_and_wait_return_at_once_when_the_run_must_stop():
    run = Run("x")
    run.request_stop("cancelled")

    assert run.sleep(600) is False
    assert run.wait_cancelled() is True


def test_sleep_and_wait_return_after_their_time_otherwise():
    assert Run("x").sleep(0.001) is True
    assert Run("x").wait_cancelled(0.001) is False


def test_a_stop_wakes_all_threads_that_wait():
    run, results = Run("x"), []
    threads = [threading.Thread(target=lambda: results.append(run.wait_cancelled(30))) for _ in range(4)]
    for thread in threads:
        thread.start()

    run.request_stop("cancelled")
    for thread in threads:
        thread.join(30)

    assert results == [True] * 4


async def test_waiting_on_an_event_loop_is_refused():
    for wait in (Run("x").sleep, Run("x").wait_cancelled):
        with pytest.raises(RuntimeError, match=r"await asyncio\.sleep"):
            wait(1)


async def test_tasks_and_threads_that_a_task_starts_see_its_run():
    run = Run("x")

    with use_run(run):
        started = asyncio.create_task(asyncio.sleep(0, result=None))
        in_thread = await asyncio.to_thread(current_run)
        await started

    assert in_thread is run


def test_progress_keeps_the_latest_value():
    seen: list[object] = []
    run = Run("x", report_progress=lambda run: seen.append(run.latest_progress))

    run.progress(1, 10)
    run.progress(2, 10, "two")

    assert seen == [(1, 10, None), (2, 10, "two")]


def test_progress_without_a_worker_does_nothing():
    Run("x").progress(1)


def test_runs_of_an_executor_share_its_state():
    state = ExecutorState(state={"connection": 1})
    run = Run("x", executor=state)

    state.draining = True

    assert (run.draining, run.state) == (True, {"connection": 1})


def test_times_without_an_offset_are_utc():
    assert read_time("2026-11-30T12:00:00") == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert read_time("2026-11-30T12:00:00Z") == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert read_time(None) is None
