"""Cancellations, timeouts and lost leases of the pools `loop` and `thread`."""

import asyncio
import logging
import threading

import pytest

from executing import WAIT_SECONDS, executing, make_app
from runyard_client import current_run
from runyard_client.log import RunFilter

app = make_app()
begun: dict[str, threading.Event] = {}
proceed: dict[str, threading.Event] = {}


def mark_begun() -> str:
    run = current_run()
    begun.setdefault(run.id, threading.Event()).set()
    return run.id


async def wait_begun(lease: str) -> None:
    event = begun.setdefault(f"run-of-{lease}", threading.Event())
    assert await asyncio.to_thread(event.wait, WAIT_SECONDS)


def allow(lease: str) -> None:
    proceed.setdefault(f"run-of-{lease}", threading.Event()).set()


def wait_allowed(run_id: str) -> None:
    assert proceed.setdefault(run_id, threading.Event()).wait(WAIT_SECONDS)


@app.task(key="sleeps")
async def sleeps():
    mark_begun()
    await asyncio.sleep(600)


@app.task(key="sleeps-briefly", timeout=0.05)
async def sleeps_briefly():
    await asyncio.sleep(600)


@app.task(key="waits-briefly", timeout=0.05)
def waits_briefly():
    current_run().wait_cancelled()
    current_run().check()


@app.task(key="swallows")
async def swallows():
    mark_begun()
    for _ in range(2):
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue
    await asyncio.sleep(600)


@app.task(key="returns-anyway")
async def returns_anyway() -> str:
    mark_begun()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "finished"
    return "never"


@app.task(key="raises-anyway")
async def raises_anyway():
    mark_begun()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        raise ConnectionError("closed") from None


@app.task(key="checks")
def checks():
    mark_begun()
    current_run().sleep(600)
    current_run().check()


@app.task(key="returns-early")
def returns_early() -> str:
    mark_begun()
    return "whole" if current_run().sleep(600) else "early"


@app.task(key="stuck", grace=0.02)
def stuck() -> str:
    wait_allowed(mark_begun())
    return "late"


@app.task(key="occupies-thread")
def occupies_thread():
    wait_allowed(mark_begun())


@app.task(key="sees-draining")
def sees_draining() -> bool:
    wait_allowed(mark_begun())
    return current_run().draining


@app.task(key="lease-end")
def lease_end() -> str:
    wait_allowed(mark_begun())
    expires_at = current_run().lease_expires_at
    assert expires_at is not None
    return expires_at.isoformat()


REASONS = [
    ("cancelled", {"state": {"type": "CANCELLED", "message": "The run was cancelled and its work has stopped."}}),
    ("drained", {"release": 0.0}),
    ("lease_lost", {"drop": True}),
    ("lease_ended", {"drop": True}),
]


@pytest.mark.parametrize("key", ["sleeps", "checks"])
@pytest.mark.parametrize(("reason", "outcome"), REASONS)
async def test_a_run_that_stops_is_reported_by_the_reason(key, reason, outcome):
    async with executing(app) as peer:
        lease = peer.start(key)
        await wait_begun(lease)
        peer.cancel(lease, reason)

        assert await peer.outcome(lease) == outcome


@pytest.mark.parametrize("key", ["sleeps-briefly", "waits-briefly"])
async def test_a_run_over_its_timeout_fails_as_timed_out(key):
    async with executing(app) as peer:
        state = await peer.state(key)

    assert (state["type"], state["name"]) == ("FAILED", "TimedOut")
    assert state["message"] == "TimedOut: The attempt exceeded its timeout of 0.05 seconds."
    assert "details" not in state


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("returns-anyway", ("COMPLETED", {"result": "finished"})),
        ("returns-early", ("COMPLETED", {"result": "early"})),
    ],
)
async def test_a_cancelled_run_that_returns_is_completed(key, expected):
    async with executing(app) as peer:
        lease = peer.start(key)
        await wait_begun(lease)
        peer.cancel(lease)
        state = (await peer.outcome(lease))["state"]

    assert (state["type"], state["data"]) == expected


async def test_a_cancelled_run_that_raises_something_else_fails():
    async with executing(app) as peer:
        lease = peer.start("raises-anyway")
        await wait_begun(lease)
        peer.cancel(lease)
        state = (await peer.outcome(lease))["state"]

    assert (state["type"], state["message"]) == ("FAILED", "ConnectionError: closed")


@pytest.mark.parametrize("key", ["returns-anyway", "raises-anyway"])
async def test_the_end_of_a_lost_lease_is_not_reported(key):
    async with executing(app) as peer:
        lease = peer.start(key)
        await wait_begun(lease)
        peer.cancel(lease, "lease_lost")

        assert await peer.outcome(lease) == {"drop": True}


async def test_a_lease_that_is_lost_during_a_cancel_is_not_reported():
    async with executing(app) as peer:
        lease = peer.start("stuck")
        await wait_begun(lease)
        peer.cancel(lease)
        peer.cancel(lease, "lease_lost")
        allow(lease)

        assert await peer.outcome(lease) == {"drop": True}


async def test_a_swallowed_cancel_is_repeated_and_logged(caplog):
    async with executing(app, cancel_repeat_seconds=0.02) as peer:
        lease = peer.start("swallows")
        await wait_begun(lease)
        with caplog.at_level(logging.WARNING, "runyard_client.worker"):
            peer.cancel(lease)
            outcome = await peer.outcome(lease)

    assert outcome["state"]["type"] == "CANCELLED"
    warning = f"name-of-{lease} continues although it was cancelled (cancelled); cancelling it again"
    assert caplog.messages == [warning, warning]


@pytest.mark.parametrize("key", ["sleeps", "checks"])
async def test_a_run_that_is_cancelled_before_it_begins_never_begins(key):
    async with executing(app) as peer:
        lease = peer.start(key)
        peer.cancel(lease)
        outcome = await peer.outcome(lease)

    assert outcome["state"]["type"] == "CANCELLED"


async def test_a_cancel_of_an_ended_run_is_ignored():
    async with executing(app) as peer:
        lease = peer.start("stuck")
        allow(lease)
        await peer.outcome(lease)
        peer.cancel(lease)

        assert (await peer.state("waits-briefly"))["name"] == "TimedOut"


async def test_a_thread_that_does_not_look_is_a_lost_slot_until_it_ends():
    async with executing(app) as peer:
        lease = peer.start("stuck")
        await wait_begun(lease)
        peer.cancel(lease)
        lost = await peer.next("lost_slots")
        allow(lease)
        outcome = await peer.outcome(lease)
        found = await peer.next("lost_slots")

    assert (lost["count"], found["count"]) == (1, 0)
    assert outcome == {"state": {"type": "COMPLETED", "data": {"result": "late"}}}


async def test_an_executor_that_stops_does_not_wait_for_lost_threads():
    async with executing(app) as peer:
        lease = peer.start("stuck")
        await wait_begun(lease)
        peer.cancel(lease)
        await peer.next("lost_slots")

    outcome = await peer.outcome(lease)
    allow(lease)
    assert outcome["state"]["type"] == "CANCELLED"


async def test_an_executor_that_stops_waits_for_its_runs():
    async with executing(app) as peer:
        lease = peer.start("sees-draining")
        await wait_begun(lease)
        peer.send({"type": "stop"})
        allow(lease)

        assert (await peer.outcome(lease))["state"]["data"] == {"result": True}


async def test_a_run_sees_that_its_worker_drains():
    async with executing(app) as peer:
        lease = peer.start("sees-draining")
        peer.send({"type": "drain"})
        allow(lease)

        assert (await peer.outcome(lease))["state"]["data"] == {"result": True}


async def test_a_run_sees_that_its_lease_was_renewed():
    async with executing(app) as peer:
        lease = peer.start("lease-end")
        peer.send({"type": "renewed", "lease": lease, "leaseExpiresAt": "2026-11-30T13:00:00+00:00"})
        allow(lease)

        assert (await peer.outcome(lease))["state"]["data"] == {"result": "2026-11-30T13:00:00+00:00"}


async def test_a_pong_has_the_runs_on_the_loop():
    async with executing(app) as peer:
        lease, thread_lease = peer.start("sleeps"), peer.start("occupies-thread")
        peer.send({"type": "ping", "number": 7})
        pong = await peer.next("pong")
        peer.cancel(lease)
        allow(thread_lease)

    assert pong == {"type": "pong", "number": 7, "onLoop": [f"name-of-{lease}"]}


def test_the_filter_leaves_records_outside_of_runs_without_a_run():
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "text", None, None)

    assert RunFilter().filter(record)
    assert (record.run_id, record.run_count) == (None, None)
