"""An operation that is cancelled, as by a client that goes away, leaves nothing behind, however far it had come."""

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from strawberry.types.execution import ExecutionResult

from tests.serving import Serving, serving

FLOW_RUNS = """{
  one: flowRuns { totalCount nodes { flow { name } taskRuns { totalCount nodes { id flowRun { name flow { id } } } } } }
  two: flowRuns { totalCount nodes { flow { name } states { id } state { id } } }
}"""


@asynccontextmanager
async def serving_flow_runs(tmp_path: Path) -> AsyncGenerator[Serving]:
    """A server with two flow runs of one task run each. Fails where anything is warned of meanwhile."""
    async with serving(tmp_path) as served:
        flow = (await served.client.ask("CreateFlow", input={"name": "a"}))["flow"]["id"]
        for _ in range(2):
            run = (await served.client.ask("CreateFlowRun", input={"flowId": flow}))["flowRun"]["id"]
            await served.client.ask("CreateTaskRun", input={"taskKey": "a", "flowRunId": run, "dynamicKey": "a"})
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield served
            gc.collect()
        assert [str(each.message) for each in warned] == []
        assert (await served.client.ask("GetServer"))["version"]


def begin(served: Serving) -> "asyncio.Task[ExecutionResult]":
    http = served.app.state.http
    return asyncio.create_task(http._schema.execute(FLOW_RUNS, None, http._context))


async def outcome(running: "asyncio.Task[ExecutionResult]") -> ExecutionResult | BaseException:
    (result,) = await asyncio.gather(running, return_exceptions=True)
    return result


async def test_an_operation_may_be_cancelled_at_any_of_its_steps(tmp_path: Path) -> None:
    async with serving_flow_runs(tmp_path) as served:
        steps, result = 0, None
        while not isinstance(result, ExecutionResult):
            running = begin(served)
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            result = await outcome(running)
            assert isinstance(result, ExecutionResult | asyncio.CancelledError)
            steps += 1

        # Each field of the root, and each list below it, waits for the one before.
        assert steps > 10
        assert result.errors is None


@pytest.mark.parametrize("extensions", [{}, {"cost": True}], ids=["plain", "with its cost"])
async def test_an_operation_may_be_cancelled_before_its_first_step(tmp_path: Path, extensions: dict[str, Any]) -> None:
    async with serving_flow_runs(tmp_path) as served:
        http = served.app.state.http
        running = asyncio.create_task(
            http._schema.execute(FLOW_RUNS, None, http._context, operation_extensions=extensions)
        )
        running.cancel()

        assert isinstance(await outcome(running), asyncio.CancelledError)


async def test_an_operation_may_be_cancelled_during_any_of_its_statements(tmp_path: Path) -> None:
    async with serving_flow_runs(tmp_path) as served:
        loop = asyncio.get_running_loop()
        number, result = 0, None
        while not isinstance(result, ExecutionResult):
            number += 1
            running = begin(served)

            def tell(place: int, number: int = number, running: "asyncio.Task[ExecutionResult]" = running) -> None:
                if place == number:
                    loop.call_soon_threadsafe(running.cancel)

            async with served.counting(tell):
                result = await outcome(running)
            assert isinstance(result, ExecutionResult | asyncio.CancelledError)

        # Flow runs, what is below them, and what is below that.
        assert number > 3
        assert result.errors is None
