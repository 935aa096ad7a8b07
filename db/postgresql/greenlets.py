"""Runs plain functions where they can wait for asyncpg: in greenlets, which are kept and used again.

A new one has Python take memory from the system for its frames, and give it back at its end. That costs as much as all else
that is done here for a small statement, ten times what it costs to switch to a greenlet that is there.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

Answer = TypeVar("Answer")


class _Outcome:
    """What has become of a function."""

    __slots__ = ("answer", "error")

    def __init__(self) -> None:
        self.answer: Any = None
        self.error: BaseException | None = None

    def take(self) -> Any:
        """The answer, or the error as it was raised; once, since the greenlet holds this until it is used again."""
        answer, error, self.answer, self.error = self.answer, self.error, None, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return answer


class _Worker(greenlet):
    """Carries out one function after the other. Who switches to it gives a function with its arguments, gets back what is to
    be waited for, gives what came of that, and so on, and in the end gets an outcome."""

    __sqlalchemy_greenlet_provider__ = True
    """Lets functions wait with `sqlalchemy.util.await_only`."""

    def __init__(self) -> None:
        super().__init__(self._work)
        # What it begins with, it would keep for good.
        self.switch()

    def _work(self) -> None:
        outcome = None
        while True:
            assert self.parent is not None
            function, arguments = self.parent.switch(outcome)
            outcome = _Outcome()
            try:
                outcome.answer = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
                outcome.error = error
            del function, arguments


class Greenlets:
    """The greenlets of one event loop."""

    def __init__(self) -> None:
        self._at_hand: list[_Worker] = []

    async def run(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """The function's answer. What it waits for with `sqlalchemy.util.await_only` is awaited here."""
        worker = self._at_hand.pop() if self._at_hand else _Worker()
        worker.gr_context = getcurrent().gr_context
        step: Awaitable[Any] | _Outcome = worker.switch((function, arguments))
        while not isinstance(step, _Outcome):
            try:
                value = await step
            except BaseException as error:  # noqa: BLE001 - the function is to have it
                step = worker.throw(error)
            else:
                step = worker.switch(value)
        # Tasks are not to live on in what was theirs.
        worker.gr_context = None
        self._at_hand.append(worker)
        return step.take()
