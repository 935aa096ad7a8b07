"""Call one task with a run context, without a worker."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, overload
from uuid import uuid4

from runyard_client.context import ExecutorState, Run, use_run
from runyard_client.tasks.task import AsyncTask, SyncTask, Task

R = TypeVar("R")


def make_run(
    task: Task[..., Any],
    *,
    run_count: int = 1,
    delivery: int = 1,
    cancelled: bool = False,
    draining: bool = False,
    state: Any = None,
    tags: tuple[str, ...] = (),
    id: str | None = None,
) -> Run:
    """Return a run of the task, as `current_run()` returns it within a worker. `state` is that of the start hooks."""
    run = Run(
        id=id or str(uuid4()),
        name=task.key,
        key=task.key,
        run_count=run_count,
        delivery=delivery,
        tags=(*task.options.tags, *tags),
        worker="run_task",
        executor=ExecutorState(draining=draining, state=state),
    )
    if cancelled:
        run.request_stop("cancelled")
    return run


@overload
def run_task(
    task: AsyncTask[..., R],
    *args: Any,
    run: Run | None = None,
    run_count: int = 1,
    cancelled: bool = False,
    **kwargs: Any,
) -> Coroutine[Any, Any, R]: ...
@overload
def run_task(
    task: SyncTask[..., R],
    *args: Any,
    run: Run | None = None,
    run_count: int = 1,
    cancelled: bool = False,
    **kwargs: Any,
) -> R: ...
def run_task(
    task: AsyncTask[..., Any] | SyncTask[..., Any],
    *args: Any,
    run: Run | None = None,
    run_count: int = 1,
    cancelled: bool = False,
    **kwargs: Any,
) -> Any:
    """Call the task with a current run, and return its result; for an async task, a coroutine.

    Arguments and result are not converted to JSON. `run` is a run of `make_run`, whose progress can be read afterwards;
    by default one is made with `run_count` and `cancelled`. Raises what the task raises.
    """
    current = run or make_run(task, run_count=run_count, cancelled=cancelled)
    if isinstance(task, AsyncTask):
        return _run_async(task, current, args, kwargs)
    with use_run(current):
        return task(*args, **kwargs)


async def _run_async(task: AsyncTask[..., Any], run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with use_run(run):
        return await task(*args, **kwargs)
