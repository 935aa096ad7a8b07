"""A cancelled operation, such as one whose client disconnected, leaves nothing behind at any point of its execution."""

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from strawberry.types.execution import ExecutionResult

from tests.builders.api_runs import create_flow_run, create_task_run
from tests.serving import RunningServer, run_server

FLOW_RUNS = """{
  one: flowRuns { totalCount nodes { flow { name } taskRuns { totalCount nodes { id flowRun { name flow { id } } } } } }
  two: flowRuns { totalCount nodes { flow { name } states { id } state { id } } }
}"""


@asynccontextmanager
async def run_server_with_flow_runs(tmp_path: Path) -> AsyncGenerator[RunningServer]:
    """Run a server with two flow runs of one task run each. Fail on any warning."""
    async with run_server(tmp_path) as running:
        for _ in range(2):
            flow_run_id = await create_flow_run(running.client)
            await create_task_run(running.client, taskKey="a", flowRunId=flow_run_id, dynamicKey="a")
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            yield running
            gc.collect()
        assert [str(each.message) for each in recorded] == []
        assert (await running.client.execute("GetServer"))["version"]


def start_operation(server: RunningServer) -> "asyncio.Task[ExecutionResult]":
    http = server.app.state.http
    return asyncio.create_task(http._schema.execute(FLOW_RUNS, None, http._context))


async def wait_for_outcome(running: "asyncio.Task[ExecutionResult]") -> ExecutionResult | BaseException:
    (result,) = await asyncio.gather(running, return_exceptions=True)
    return result


async def test_an_operation_may_be_cancelled_at_any_step(tmp_path: Path) -> None:
    async with run_server_with_flow_runs(tmp_path) as server:
        steps, result = 0, None
        while not isinstance(result, ExecutionResult):
            running = start_operation(server)
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            result = await wait_for_outcome(running)
            assert isinstance(result, ExecutionResult | asyncio.CancelledError)
            steps += 1

        assert steps > 1
        assert result.errors is None


@pytest.mark.parametrize("extensions", [{}, {"cost": True}], ids=["plain", "with cost"])
async def test_an_operation_may_be_cancelled_before_its_first_step(tmp_path: Path, extensions: dict[str, Any]) -> None:
    async with run_server_with_flow_runs(tmp_path) as server:
        http = server.app.state.http
        running = asyncio.create_task(
            http._schema.execute(FLOW_RUNS, None, http._context, operation_extensions=extensions)
        )
        running.cancel()

        assert isinstance(await wait_for_outcome(running), asyncio.CancelledError)


async def test_an_operation_may_be_cancelled_during_any_statement(tmp_path: Path) -> None:
    async with run_server_with_flow_runs(tmp_path) as server:
        loop = asyncio.get_running_loop()
        number, result = 0, None
        while not isinstance(result, ExecutionResult):
            number += 1
            running = start_operation(server)

            def cancel_at(
                statement: int, number: int = number, running: "asyncio.Task[ExecutionResult]" = running
            ) -> None:
                if statement == number:
                    loop.call_soon_threadsafe(running.cancel)

            async with server.record_reads(cancel_at):
                result = await wait_for_outcome(running)
            assert isinstance(result, ExecutionResult | asyncio.CancelledError)

        # There is at least one statement for each of the three levels.
        assert number > 3
        assert result.errors is None
