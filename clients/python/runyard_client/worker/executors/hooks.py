"""Hooks of the app: at the start and the stop of an executor, and around each run.

A start hook is a function, a coroutine function, a generator or an asynchronous generator. Generators yield once: what
they yield is `current_run().state`, and the code after the `yield` runs when the executor stops. Several hooks that yield
must yield mappings, which are merged. Start hooks run before the executor is `ready`, in the order of their declaration; an
exception prevents the start. Stop hooks run after the last run, in reverse order; their exceptions are logged.

A middleware (`@runyard.around`) is a generator function `(run, arguments)`. It yields once, around the call of the task's
function, on its thread and in its context. The `yield` returns the result or raises the exception of the task. An exception
that the middleware raises replaces the task's; a task's exception cannot be suppressed, and a result cannot be changed.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

from runyard_client.context import Run

Middleware: TypeAlias = Callable[[Run, Mapping[str, Any]], Generator[None, Any, None]]
Hook: TypeAlias = Callable[[], Any]

logger = logging.getLogger("runyard_client.worker")


class HookError(Exception):
    """A hook or a middleware does not have the required form."""


class Hooks:
    """The start and stop hooks of one executor."""

    def __init__(self, start_hooks: Sequence[Hook], stop_hooks: Sequence[Hook]) -> None:
        self._start_hooks, self._stop_hooks = start_hooks, stop_hooks
        self._generators: list[Any] = []
        self._yielded: list[Any] = []

    async def start(self) -> Any:
        """Run the start hooks and return the state. If one raises, stop those that have started and raise."""
        try:
            for hook in self._start_hooks:
                await self._start_one(hook)
            return merge_states(self._yielded)
        except BaseException:
            await self._finish_generators()
            raise

    async def stop(self) -> None:
        """Run the stop hooks, then the rest of the start hooks that have yielded. Exceptions are logged."""
        for hook in reversed(self._stop_hooks):
            try:
                await wait_if_awaitable(hook())
            except Exception:
                logger.exception("The stop hook %s failed", getattr(hook, "__qualname__", hook))
        await self._finish_generators()

    async def _start_one(self, hook: Hook) -> None:
        made = hook()
        if inspect.isasyncgen(made):
            self._yielded.append(await anext(made))
            self._generators.append(made)
        elif inspect.isgenerator(made):
            self._yielded.append(next(made))
            self._generators.append(made)
        else:
            await wait_if_awaitable(made)

    async def _finish_generators(self) -> None:
        while self._generators:
            generator = self._generators.pop()
            try:
                await finish_generator(generator)
            except Exception:
                logger.exception("The start hook %s failed when the executor stopped", generator.__qualname__)


async def wait_if_awaitable(value: Any) -> Any:
    """Return the result of an awaitable, or the value itself."""
    return await value if inspect.isawaitable(value) else value


async def finish_generator(generator: Any) -> None:
    """Run the code after the `yield`. Raises HookError if there is another one."""
    try:
        await anext(generator) if inspect.isasyncgen(generator) else next(generator)
    except (StopIteration, StopAsyncIteration):
        return
    raise HookError(f"The hook {generator.__qualname__} must yield once.")


def merge_states(states: Sequence[Any]) -> Any:
    """Return the only state, or the merged mappings. Raises HookError for several states that are not all mappings."""
    states = [state for state in states if state is not None]
    if len(states) <= 1:
        return states[0] if states else None
    merged: dict[Any, Any] = {}
    for state in states:
        check_mapping(state)
        merged.update(state)
    return merged


def check_mapping(state: Any) -> None:
    """Raise HookError if a state is not a mapping."""
    if not isinstance(state, Mapping):
        found = type(state).__name__
        raise HookError(f"Start hooks that yield must yield mappings if there are several; got {found}.")


def enter_middleware(middleware: Sequence[Middleware], run: Run, arguments: Mapping[str, Any]) -> list[Any]:
    """Start the middleware and return the generators. If one raises, close those that have started and raise."""
    generators: list[Any] = []
    try:
        for each in middleware:
            generator = each(run, arguments)
            if not inspect.isgenerator(generator):
                raise HookError(f"{each!r} must be a generator function that yields once.")
            next(generator)
            generators.append(generator)
    except BaseException as error:  # noqa: BLE001 - it ends the task, and may be replaced by the outer middleware
        ended = leave_middleware(generators, None, error)
        raise ended or error  # noqa: B904 - the context is kept
    return generators


def leave_middleware(generators: list[Any], result: Any, error: BaseException | None) -> BaseException | None:
    """Give the result or the error to the middleware, innermost first. Return the error that the call ends with."""
    for generator in reversed(generators):
        try:
            if error is None:
                generator.send(result)
            else:
                generator.throw(error)
        except StopIteration:
            continue
        except BaseException as replacing:  # noqa: BLE001 - the task ends with it
            error = replacing
        else:
            generator.close()
            error = HookError(f"The middleware {generator.__qualname__} must yield once.")
    return error
