"""The query `endedTaskRuns`: waits for the end of task runs, and reads them with the columns that its selection needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from db.records import TaskRunRecord
from resolvers import ended_task_runs
from resolvers.ended_task_runs import read_ended
from schema.context import Info
from schema.execution.codegen import CompletedValue, NotCompilable
from schema.reads.row_plans import plan_ended_runs


@dataclass(frozen=True, slots=True)
class EndedRunsResult:
    """Source of an `EndedTaskRuns`."""

    ended: list[TaskRunRecord] | CompletedValue
    not_found: list[str]
    has_more: bool


async def wait_for_ended_runs(info: Info, ids: Sequence[str], wait_seconds: float) -> EndedRunsResult:
    """Return the runs that have ended as soon as there is one, or an id that no run has; empty after `wait_seconds`."""
    database, registry = info.context.database, info.context.waits.ended_task_runs
    if (plan := plan_ended_runs(info)) is not None:
        read_rows = partial(ended_task_runs.read_rows, paths=plan.paths)
        found = await registry.wait(ids, wait_seconds, lambda: read_ended(database, ids, read_rows))
        try:
            return EndedRunsResult(plan.complete(found.ended, found.read_at), found.not_found, found.has_more)
        except NotCompilable:
            # graphql-core reports the error when it completes the records.
            wait_seconds = 0
    records = await registry.wait(ids, wait_seconds, lambda: read_ended(database, ids, ended_task_runs.read_records))
    return EndedRunsResult(records.ended, records.not_found, records.has_more)
