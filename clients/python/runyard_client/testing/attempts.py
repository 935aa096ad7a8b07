"""One attempt of a run of inline mode: the call of its function, within the middleware of its app."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from runyard_client.app import Runyard
from runyard_client.context import Run
from runyard_client.tasks.task import AsyncTask, Task
from runyard_client.testing.inline_run import InlineRun
from runyard_client.worker.executors.hooks import Middleware, enter_middleware, leave_middleware


@dataclass
class Attempt:
    """The call of an attempt. The caller sets `result`."""

    call: Callable[[], Any]
    is_async: bool
    result: Any = None


@contextmanager
def attempt_of(run: InlineRun, current: Run) -> Generator[Attempt]:
    """Read the parameters and enter the middleware; leave it with the result or the exception of the block.

    Raises BadParameters, what the block raises, or what the middleware raises instead.
    """
    task = run.task
    args, kwargs = task.read_parameters(current.parameters, current)
    attempt = Attempt(lambda: task.function(*args, **kwargs), isinstance(task, AsyncTask))
    arguments: Mapping[str, Any] = inspect.signature(task.function).bind(*args, **kwargs).arguments
    generators = enter_middleware(_middleware(task), current, arguments)
    raised: BaseException | None = None
    try:
        yield attempt
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised below, unless the middleware replaces it
        raised = error
    raised = leave_middleware(generators, attempt.result, raised)
    if raised is not None:
        raise raised


def _middleware(task: Task[..., Any]) -> Sequence[Middleware]:
    return cast(Runyard, task.app).middleware
