"""An operation that is cancelled, as by a client that goes away, leaves nothing behind, however far it had come."""

import asyncio
import gc
import warnings
from pathlib import Path

from strawberry.types.execution import ExecutionResult

from tests.serving import serving

FLOW_RUNS = """{
  one: flowRuns { totalCount nodes { flow { name } taskRuns { totalCount nodes { id flowRun { name flow { id } } } } } }
  two: flowRuns { totalCount nodes { flow { name } states { id } state { id } } }
}"""


async def test_an_operation_may_be_cancelled_at_any_of_its_steps(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        flow = (await served.client.ask("CreateFlow", input={"name": "a"}))["flow"]["id"]
        for _ in range(2):
            run = (await served.client.ask("CreateFlowRun", input={"flowId": flow}))["flowRun"]["id"]
            await served.client.ask("CreateTaskRun", input={"taskKey": "a", "flowRunId": run, "dynamicKey": "a"})
        schema, context = served.app.state.http._schema, served.app.state.http._context
        steps, result = 0, None

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            while not isinstance(result, ExecutionResult):
                running = asyncio.create_task(schema.execute(FLOW_RUNS, None, context))
                for _ in range(steps):
                    await asyncio.sleep(0)
                running.cancel()
                (result,) = await asyncio.gather(running, return_exceptions=True)
                assert isinstance(result, ExecutionResult | asyncio.CancelledError)
                steps += 1
            gc.collect()

        assert [str(each.message) for each in warned] == []
        assert steps > 50
        assert result.errors is None
        assert (await served.client.ask("GetServer"))["version"]
