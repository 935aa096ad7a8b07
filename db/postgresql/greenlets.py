"""A pool of greenlets, in which plain functions can wait for asyncpg.

For a new greenlet, Python allocates memory of the system for its frames, and frees it at the end. That costs as much as
all other work for a small statement, and ten times as much as a switch to an existing greenlet.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _CallResult:
    """Result or error of a function."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def take(self) -> Any:
        """Return the result, or raise the error, and forget both, since an idle greenlet still holds this object."""
        value, error, self.value, self.error = self.value, self.error, None, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value


class _Worker(greenlet):
    """A greenlet that executes one function after the other.

    The caller switches to it with a function and its arguments, and receives an awaitable or a `_CallResult`. It
    switches back with the result of each awaitable until it receives the `_CallResult`.
    """

    __sqlalchemy_greenlet_provider__ = True
    """Enables `sqlalchemy.util.await_only` in the functions."""

    def __init__(self) -> None:
        super().__init__(self._work)
        # Started without a function, because a greenlet holds its first arguments until it ends.
        self.switch()

    def _work(self) -> None:
        result = None
        while True:
            assert self.parent is not None
            function, arguments = self.parent.switch(result)
            result = _CallResult()
            try:
                result.value = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - the caller receives it
                result.error = error
            del function, arguments


class GreenletPool:
    """The greenlets of one event loop."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function` and return its result. Awaits what the function passes to `sqlalchemy.util.await_only`."""
        worker = self._idle.pop() if self._idle else _Worker()
        worker.gr_context = getcurrent().gr_context
        step: Awaitable[Any] | _CallResult = worker.switch((function, arguments))
        while not isinstance(step, _CallResult):
            try:
                value = await step
            except BaseException as error:  # noqa: BLE001 - the function receives it
                step = worker.throw(error)
            else:
                step = worker.switch(value)
        # Cleared because an idle greenlet must not keep the context variables of a task alive.
        worker.gr_context = None
        self._idle.append(worker)
        return step.take()
