"""The decorators `@runyard.task` and `@task`, which make tasks of functions."""

from __future__ import annotations

import inspect
import string
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from runyard_client.context import Run
from runyard_client.tasks.retries import make_retry_policy
from runyard_client.tasks.task import AsyncTask, SyncTask, Task, TaskApp
from runyard_client.tasks.task_options import (
    MAX_LEASE_SECONDS,
    CacheKey,
    ExceptionTypes,
    Pool,
    ResultOption,
    TaskOptions,
    check_exceptions,
    check_seconds,
    check_tags,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class DeclaredOptions(TypedDict, total=False):
    """Options of `@task`. Times are in seconds, or timedelta."""

    key: str
    version: str
    group: str
    pool: Pool
    retries: int
    retry_delays: float | Iterable[float]
    jitter: float
    retry_on: ExceptionTypes
    fail_on: ExceptionTypes
    timeout: float | timedelta | None
    lease_seconds: float
    tags: Iterable[str]
    cache_key: CacheKey | None
    cache_for: float | timedelta | None
    name: str
    result: ResultOption
    exclusive: bool
    raises: ExceptionTypes
    grace: float


class _NotRun:
    """A type that only parameters without an annotation, or annotated `Any` or `object`, accept."""


class _TakesAnything(Protocol[P, R_co]):
    """A function whose first parameter accepts everything: it accepts a `Run` too, but is not filled in with it."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, first: _NotRun, /, *args: Any, **kwargs: Any) -> Any: ...


# In both classes below, a function that matches several overloads takes the first one: `async def` before `def`, and the
# functions that accept anything before those that take a `Run`. Therefore they overlap, which the checkers report.
class FunctionDecorator:
    """Makes tasks of functions, with given options."""

    def __init__(self, app: TaskApp | None, options: DeclaredOptions) -> None:
        self._app = app
        self._options = options

    @overload
    def __call__(self, function: _TakesAnything[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[Concatenate[Run, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: _TakesAnything[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Run, P], R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return make_task(function, self._options, self._app)


class TaskDecorator:
    """Makes tasks of functions: as `@task`, and with options as `@task(retries=3)`."""

    def __init__(self, app: TaskApp | None = None) -> None:
        self._app = app

    @overload
    def __call__(self, function: _TakesAnything[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[Concatenate[Run, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: _TakesAnything[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Run, P], R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, /, **options: Unpack[DeclaredOptions]) -> FunctionDecorator: ...
    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        unknown = options.keys() - DeclaredOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"@task has no option {min(unknown)!r}.")
        declared = cast("DeclaredOptions", options)
        return FunctionDecorator(self._app, declared) if function is None else make_task(function, declared, self._app)


def task_decorator(app: TaskApp | None = None) -> TaskDecorator:
    """Return the decorator that adds its tasks to `app`."""
    return TaskDecorator(app)


task = task_decorator()
"""Makes a task that belongs to no app yet: `runyard.add(module)` adds it to one. For libraries of tasks."""


def make_task(
    function: Callable[..., Any], options: DeclaredOptions | None = None, app: TaskApp | None = None
) -> Task[..., Any]:
    """Return the task of a function, and add it to `app`.

    Raises:
        TypeError: it is not a function, but a method, a lambda, a generator or another callable; or an option has the
            wrong type.
        ValueError: an option is out of its range, or `app` has another task with the same key.
    """
    _check_function(function)
    is_async = inspect.iscoroutinefunction(function)
    checked = _read_options(function, options or {}, is_async)
    made: Task[..., Any] = (AsyncTask if is_async else SyncTask)(function, checked)
    _check_name(checked.name, made)
    if app is not None:
        register_task(made, app)
    return made


def register_task(made: Task[..., Any], app: TaskApp) -> None:
    """Add a task to an app, without the options of `with_`. Has no effect if the app has it already.

    Raises:
        ValueError: the app has another task with the same key, or the task belongs to another app.
    """
    made = made.declared
    present = app.tasks.get(made.key)
    if present is made:
        return
    if made.app is not None and made.app is not app:
        raise ValueError(f"The task {made.key} belongs to another Runyard.")
    if present is not None and not _is_redefined(present, made):
        raise ValueError(
            f"Two tasks have the key {made.key!r}: {_place(present)} and {_place(made)}. Set `key` for one of them."
        )
    made.app = app
    app.tasks[made.key] = made


def _is_redefined(present: Task[..., Any], made: Task[..., Any]) -> bool:
    """Return whether an interactive session, such as a notebook, defines its function again."""
    is_interactive = made.function.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    return is_interactive and present.function.__qualname__ == made.function.__qualname__


def _place(made: Task[..., Any]) -> str:
    function = inspect.unwrap(made.function)
    return f"{function.__qualname__} ({function.__code__.co_filename}:{function.__code__.co_firstlineno})"


def _check_function(function: Any) -> None:
    if not inspect.isfunction(function):
        raise TypeError(f"A task must be a function; got {function!r}.")
    if function.__name__ == "<lambda>":
        raise TypeError("A task cannot be a lambda: workers find its function by its name. Use `def`.")
    container = function.__qualname__.rpartition(".")[0]
    if container and not container.endswith("<locals>"):
        raise TypeError(f"{function.__qualname__} is a method, which cannot be a task. Use a function.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a generator, which cannot be a task. Return a list.")


def _lease_seconds(value: Any) -> float | None:
    return None if value is None else check_seconds("lease_seconds", value, 1, MAX_LEASE_SECONDS)


def _read_options(function: Callable[..., Any], given: DeclaredOptions, is_async: bool) -> TaskOptions:
    return TaskOptions(
        key=given["key"] if "key" in given else _default_key(function),
        version=given.get("version"),
        group=given.get("group", "default"),
        pool=_check_pool(function, given.get("pool", "loop" if is_async else "thread"), is_async),
        retries=make_retry_policy(given.get("retries", 0), given.get("retry_delays"), given.get("jitter", 0.0)),
        retry_on=check_exceptions("retry_on", given["retry_on"]) if "retry_on" in given else None,
        fail_on=check_exceptions("fail_on", given.get("fail_on")),
        timeout=_seconds("timeout", given.get("timeout")),
        lease_seconds=_lease_seconds(given.get("lease_seconds")),
        tags=check_tags(given.get("tags", ())),
        cache_key=given.get("cache_key"),
        cache_for=_seconds("cache_for", given.get("cache_for")),
        name=given.get("name"),
        result=given.get("result", "inline"),
        exclusive=given.get("exclusive", False),
        raises=check_exceptions("raises", given.get("raises")),
        grace=check_seconds("grace", given.get("grace", 5.0), 0, 3_600),
    )


def _seconds(argument: str, value: float | timedelta | None) -> float | None:
    return None if value is None else check_seconds(argument, value, 0, sys.float_info.max)


def _check_pool(function: Callable[..., Any], pool: Pool, is_async: bool) -> Pool:
    if pool == "loop" and not is_async:
        raise ValueError(f"`pool` must be 'thread' or 'process' for {function.__qualname__}, which is not `async def`.")
    if pool == "thread" and is_async:
        raise ValueError(f"`pool` must be 'loop' or 'process' for {function.__qualname__}, which is `async def`.")
    return pool


def _default_key(function: Callable[..., Any]) -> str:
    return f"{_module_name(function.__module__)}.{function.__qualname__}"


def _module_name(module: str) -> str:
    """Return the name under which a worker imports the module, also if it is executed as the program."""
    if module != "__main__":
        return module
    main = sys.modules[module]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file: str | None = getattr(main, "__file__", None)
    return Path(file).stem if file else module


def _check_name(template: str | None, made: Task[..., Any]) -> None:
    """Check that the braces of a name have names of parameters. Raises ValueError."""
    if template is None:
        return
    has_keywords = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in _parameters_of(made).values())
    for _, field, _, _ in string.Formatter().parse(template):
        parameter = None if field is None else field.partition(".")[0].partition("[")[0]
        if parameter is not None and not has_keywords and parameter not in made.parameters.names:
            raise ValueError(f"`name` has {{{field}}}, but {made.key} has no parameter {parameter!r}.")


def _parameters_of(made: Task[..., Any]) -> Mapping[str, inspect.Parameter]:
    return made.parameters.signature.parameters
