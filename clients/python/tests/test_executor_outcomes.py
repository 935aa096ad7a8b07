"""How a run ends: the outcome that an executor reports for what a task returns or raises."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from executing import executing, make_app
from runyard_client import Fail, Retry, Snooze, current_run
from runyard_client.errors import Cancelled

app = make_app()


class Away(Exception):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


ERRORS = {
    "value": lambda: ValueError("wrong\nsecond line"),
    "fail": lambda: Fail("not an address"),
    "away": lambda: Away("later"),
    "exit": lambda: SystemExit(2),
    "interrupt": KeyboardInterrupt,
    "unprintable": Unprintable,
    "cancelled": asyncio.CancelledError,
    "check": Cancelled,
    "retry": lambda: Retry(after=30),
    "snooze": lambda: Snooze(30),
}


@app.task(key="add")
async def add(first: int, second: int = 2) -> int:
    return first + second


@app.task(key="raise", fail_on=(Away,))
async def raise_error(kind: str):
    raise ERRORS[kind]()


@app.task(key="raise-in-thread", fail_on=(Away,))
def raise_in_thread(kind: str):
    raise ERRORS[kind]()


@app.task(key="set-of-objects")
async def set_of_objects():
    return {"items": [1, object()]}


@app.task(key="attributes")
async def attributes():
    run = current_run()
    return [run.id, run.name, run.key, run.run_count, run.delivery, list(run.tags), run.worker, run.parameters]


async def test_the_result_is_the_data_of_completed():
    async with executing(app) as peer:
        outcome = await peer.execute("add", {"first": 3})

    assert outcome == {"state": {"type": "COMPLETED", "data": {"result": 5}}}


@pytest.mark.parametrize("key", ["raise", "raise-in-thread"])
@pytest.mark.parametrize(
    ("kind", "message", "retriable"),
    [
        ("value", "ValueError: wrong", True),
        ("fail", "Fail: not an address", False),
        ("away", "Away: later", False),
        ("exit", "SystemExit: 2", True),
        ("interrupt", "KeyboardInterrupt", True),
        ("cancelled", "CancelledError", True),
        ("check", "Cancelled: The run was cancelled.", True),
    ],
)
async def test_an_exception_fails_the_run_and_the_executor_lives(key, kind, message, retriable):
    async with executing(app) as peer:
        state = await peer.state(key, {"kind": kind}, run_count=3)
        next_state = await peer.state("add", {"first": 1})

    assert (state["type"], state["message"]) == ("FAILED", message)
    assert state.get("details", {}).get("retriable", True) is retriable
    error = state["data"]["error"]
    assert (error["attempt"], error["worker"], error["retriable"]) == (3, "mill", retriable)
    assert next_state["data"] == {"result": 3}


async def test_an_exception_without_text_is_named_by_its_type():
    async with executing(app) as peer:
        state = await peer.state("raise", {"kind": "unprintable"})

    assert state["type"] == "FAILED"
    assert "Unprintable" in state["message"]


async def test_a_result_that_is_not_json_fails_the_run_with_its_path():
    async with executing(app) as peer:
        state = await peer.state("set-of-objects")

    assert state["type"] == "FAILED"
    assert "items[1]" in state["message"]
    assert state["details"] == {"retriable": False}


@pytest.mark.parametrize("parameters", [{"first": 1, "third": 3}, {}, {"first": "x"}])
async def test_parameters_that_do_not_match_are_not_retried(parameters):
    async with executing(app) as peer:
        state = await peer.state("add", parameters, retries=5)

    assert state["type"] == "FAILED"
    assert state["message"].startswith("BadParameters: ")
    assert state["details"] == {"retriable": False}


async def test_retry_schedules_the_next_attempt():
    before = datetime.now(UTC)

    async with executing(app) as peer:
        state = await peer.state("raise", {"kind": "retry"}, run_count=2, retries=2)

    assert (state["type"], state["name"]) == ("SCHEDULED", "AwaitingRetry")
    at = datetime.fromisoformat(state["details"]["scheduledTime"])
    assert before + timedelta(seconds=30) <= at <= datetime.now(UTC) + timedelta(seconds=30)


async def test_retry_without_retries_left_fails():
    async with executing(app) as peer:
        state = await peer.state("raise", {"kind": "retry"}, run_count=3, retries=2)

    assert state["type"] == "FAILED"


async def test_snooze_releases_the_run():
    async with executing(app) as peer:
        assert await peer.execute("raise", {"kind": "snooze"}) == {"release": 30.0}


async def test_a_run_of_an_unknown_key_is_released():
    async with executing(app) as peer:
        assert await peer.execute("unknown") == {"release": 5.0}


async def test_a_task_sees_its_run():
    async with executing(app) as peer:
        lease = peer.start("attributes", run_count=2)
        state = (await peer.outcome(lease))["state"]

    expected = [f"run-of-{lease}", f"name-of-{lease}", "attributes", 2, 1, ["tag"], "mill", {}]
    assert state["data"] == {"result": expected}
