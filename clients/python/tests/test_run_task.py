"""`run_task` calls one task with a run context."""

import asyncio
from typing import Any

import pytest

from runyard_client import Cancelled, Run, Runyard, Snooze, current_run
from runyard_client.testing import make_run, run_task

app = Runyard()


@app.task(tags=["mail"])
def describe(to: str, *, subject: str = "Hello") -> dict[str, Any]:
    run = current_run()
    run.progress(1, 2)
    return {"to": to, "subject": subject, "count": run.run_count, "tags": run.tags, "cancelled": run.cancelled}


def test_a_task_sees_its_run() -> None:
    assert run_task(describe, "ada", run_count=2, subject="Hi") == {
        "to": "ada",
        "subject": "Hi",
        "count": 2,
        "tags": ("mail",),
        "cancelled": False,
    }
    assert current_run(None) is None


async def test_an_async_task_is_awaited() -> None:
    @app.task
    async def count() -> int:
        await asyncio.sleep(0)
        return current_run().run_count

    assert await run_task(count, run_count=3) == 3
    assert current_run(None) is None


def test_a_cancelled_run_stops_a_task_that_looks() -> None:
    @app.task
    def wait() -> bool:
        current_run().wait_cancelled(30)
        current_run().check()
        return True

    with pytest.raises(Cancelled):
        run_task(wait, cancelled=True)


def test_a_run_can_be_made_before_and_read_after_the_call() -> None:
    @app.task
    def stop_early() -> None:
        current_run().progress(3, 4, current_run().state)
        if current_run().draining:
            raise Snooze(0)

    run = make_run(stop_early, draining=True, state="pool")
    with pytest.raises(Snooze):
        run_task(stop_early, run=run)

    assert run.latest_progress == (3, 4, "pool")


def test_a_parameter_annotated_run_is_filled_in() -> None:
    @app.task
    def name_of(run: Run, suffix: str) -> str:
        return run.key + suffix

    assert run_task(name_of, "!") == f"{name_of.key}!"
