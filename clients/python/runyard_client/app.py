"""The app: its tasks, and its connection to a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from uuid import UUID

from runyard_client.connection.app_connection import Connection
from runyard_client.connection.background import background, check_blocking
from runyard_client.connection.enqueuing import Created, WhenFull
from runyard_client.connection.outbox import Outbox
from runyard_client.errors import RunyardError
from runyard_client.handle import Handle
from runyard_client.handle_waits import iterate_ended_handles, wait_for_handles, wait_for_handles_sync
from runyard_client.tasks.decorator import TaskDecorator, register_task, task_decorator
from runyard_client.tasks.task import Task
from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import TokenSource
from runyard_client.transport.url import DEFAULT_URL, endpoint_url

if TYPE_CHECKING:
    from runyard_client.results.envelope import ResultStore
    from runyard_client.tasks.calls import Call
    from runyard_client.values import Decode, Encode

R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])

URL_VARIABLE = "RUNYARD_URL"
MAX_ENQUEUE_SECONDS = 86_400.0


class PartlyEnqueued(RunyardError):
    """Some of the calls of `enqueue_many` were not created. The others were.

    `results` has a Handle or an exception for each call, in the order of the calls.
    """

    def __init__(self, results: Sequence[Handle[Any] | Exception]) -> None:
        errors = [(index, result) for index, result in enumerate(results) if isinstance(result, Exception)]
        index, error = errors[0]
        super().__init__(
            f"{len(errors):,} of {len(results):,} task runs were not created. "
            f"The first error is that of calls[{index}]: {type(error).__name__}: {error}"
        )
        self.results = list(results)
        self.errors = [error for _, error in errors]


class Runyard:
    """Tasks, and a connection to a Runyard server. May be used from all threads and event loops.

    The connection is opened at the first request, and `RUNYARD_URL`, `RUNYARD_TOKEN` and `RUNYARD_TOKEN_FILE` are read
    then.

    Args:
        url: URL of the server. Defaults to RUNYARD_URL, then to http://127.0.0.1:4200.
        token: API token, or a function that returns it. The function is called again when the token is refused.
        encode: turns a value that is not JSON into one that is; replaces the built-in conversions.
        decode: turns JSON into a value of an annotation; replaces the built-in conversions.
        results: where results above 256 KiB are stored.
        enqueue_timeout: seconds for which an enqueue is repeated while the server does not respond.
        when_full: whether an enqueue raises QueueFull or waits when the queue of the task key is full.
    """

    backend: Connection | None = None
    """Takes the place of the connection of every app; set by the inline mode of `runyard_client.testing`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | Callable[[], str | None] | None = None,
        *,
        encode: Encode | None = None,
        decode: Decode | None = None,
        results: ResultStore | None = None,
        enqueue_timeout: float = 10.0,
        when_full: WhenFull = "raise",
    ) -> None:
        if when_full not in ("raise", "wait"):
            raise ValueError(f"`when_full` must be 'raise' or 'wait'; got {when_full!r}.")
        if not 0 < enqueue_timeout <= MAX_ENQUEUE_SECONDS:
            raise ValueError(
                f"`enqueue_timeout` must be above 0 and at most {MAX_ENQUEUE_SECONDS:,.0f} seconds; got {enqueue_timeout!r}."
            )
        self._url = None if url is None else endpoint_url(url)
        self._token = token
        self._enqueue_timeout = enqueue_timeout
        self._when_full: WhenFull = when_full
        self._connection: Connection | None = None
        self.tasks: dict[str, Task[..., Any]] = {}
        self.encode = encode
        self.decode = decode
        self.results = results
        self.start_hooks: list[Callable[..., Any]] = []
        self.stop_hooks: list[Callable[..., Any]] = []
        self.middleware: list[Callable[..., Any]] = []
        self.task: TaskDecorator = task_decorator(self)
        """Decorator that makes a function a task of this app, with or without options."""

    @property
    def url(self) -> str:
        """URL of the GraphQL endpoint. Raises ValueError when RUNYARD_URL is not an HTTP URL."""
        if self._url is None:
            self._url = endpoint_url(os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        return self._url

    def add(self, tasks: Task[..., Any] | ModuleType) -> None:
        """Add a task, or all tasks of a module, that were declared with `runyard_client.tasks.task`.

        Raises:
            ValueError: another task of this app has the same key, the task belongs to another app, or the module has no
                tasks that it can add. Tasks of other apps in a module are ignored.
            TypeError: `tasks` is neither a task nor a module.
        """
        given = cast("object", tasks)  # callers without a type checker pass anything
        if isinstance(given, ModuleType):
            self._add_module(given)
        elif isinstance(given, Task):
            register_task(cast("Task[..., Any]", given), self)
        else:
            raise TypeError(f"`tasks` must be a task or a module; got {given!r}.")

    def _add_module(self, module: ModuleType) -> None:
        tasks = [cast("Task[..., Any]", value) for value in vars(module).values() if isinstance(value, Task)]
        found = [each for each in tasks if each.app is None or each.app is self]
        if not found:
            raise ValueError(f"The module {module.__name__} has no tasks that belong to no Runyard yet.")
        for each in found:
            register_task(each, self)

    async def enqueue_call(self, call: Call[R_co], /) -> Handle[R_co]:
        """Create the task run of a call, as `Task.enqueue` does."""
        results = await asyncio.wrap_future(self.connection().enqueuer.submit([call]))
        return self._handle(call, results[0])

    def enqueue_call_sync(self, call: Call[R_co], /) -> Handle[R_co]:
        """Create the task run of a call, as `Task.enqueue_sync` does. Blocks."""
        check_blocking("task.enqueue(…)")
        return self._handle(call, self.connection().enqueuer.submit([call]).result()[0])

    async def enqueue_many(self, calls: Iterable[Call[R_co]]) -> list[Handle[R_co]]:
        """Create the task runs of these calls, in order, and return their handles in the same order.

        Up to 500 runs or 512 KiB are created by one request. The calls are not one transaction.

        Raises:
            PartlyEnqueued: some of the runs were not created; `.results` has the handles of the others.
        """
        calls = list(calls)
        return self._handles(calls, await asyncio.wrap_future(self.connection().enqueuer.submit(calls)))

    def enqueue_many_sync(self, calls: Iterable[Call[R_co]]) -> list[Handle[R_co]]:
        """Create the task runs of these calls, as `enqueue_many` does. Blocks."""
        check_blocking("runyard.enqueue_many(…)")
        calls = list(calls)
        return self._handles(calls, self.connection().enqueuer.submit(calls).result())

    def outbox(self) -> Outbox:
        """Return a context manager, for `with` and `async with`, that collects calls.

        It enqueues them at the end of the block, and nothing when the block raises an exception:

            async with runyard.outbox() as outbox:
                outbox.add(send_mail.call("ada@example.org"))
        """
        return Outbox(self)

    @overload
    def handle(self, id: str, task: Task[..., R_co]) -> Handle[R_co]: ...
    @overload
    def handle(self, id: str, task: None = None) -> Handle[Any]: ...
    def handle(self, id: str, task: Task[..., Any] | None = None) -> Handle[Any]:
        """Return the handle of a task run that was created elsewhere. Sends nothing.

        Without its task, its result is returned as plain JSON. Raises ValueError when `id` is not a UUID.
        """
        try:
            canonical = str(UUID(id))
        except (ValueError, AttributeError, TypeError):
            raise ValueError(f"`id` must be the UUID of a task run; got {id!r}.") from None
        return Handle(canonical, self.connection, task)

    async def wait(
        self,
        handles: Iterable[Handle[R_co]],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[list[Handle[R_co]], list[Handle[R_co]]]:
        """Wait until all runs have ended, or `timeout` seconds have passed.

        Returns the handles of the runs that have ended or are deleted, and those of the others, each in the given order.
        """
        return await wait_for_handles(self.connection, list(handles), timeout)

    def wait_sync(
        self, handles: Iterable[Handle[R_co]], timeout: float | None = None
    ) -> tuple[list[Handle[R_co]], list[Handle[R_co]]]:
        """Wait until all runs have ended, as `wait` does. Blocks."""
        check_blocking("runyard.wait(…)")
        return wait_for_handles_sync(self.connection, list(handles), timeout)

    async def as_completed(self, handles: Iterable[Handle[R_co]]) -> AsyncIterator[Handle[R_co]]:
        """Yield each handle as soon as its run has ended or is deleted; `handle.result()` then returns at once."""
        async with aclosing(iterate_ended_handles(self.connection, list(handles))) as ended:
            async for handle in ended:
                yield handle

    def on_worker_start(self, hook: F) -> F:
        """Call `hook`, a function or coroutine function, when a worker starts, in each process that executes tasks."""
        self.start_hooks.append(hook)
        return hook

    def on_worker_stop(self, hook: F) -> F:
        """Call `hook`, a function or coroutine function, when a worker stops, in each process that executes tasks."""
        self.stop_hooks.append(hook)
        return hook

    def around(self, middleware: F) -> F:
        """Wrap the execution of every task with `middleware`."""
        self.middleware.append(middleware)
        return middleware

    def run_worker(self, **settings: Any) -> int:
        """Run a worker with this app until SIGINT or SIGTERM, and return its exit code. Blocks."""
        from runyard_client.worker import run_worker  # noqa: PLC0415 - programs that only enqueue do not need it

        return run_worker(self, **settings)

    def make_transport(self) -> Transport:
        """Return a connection for one event loop, apart from that of the app. The caller closes it."""
        return Transport(self.url, TokenSource(self._token))

    async def close(self) -> None:
        """Wait for the responses to what was enqueued, and close the connection. A later request opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_of_this_process():
            await asyncio.wrap_future(connection.background.run(connection.close()))

    def close_sync(self) -> None:
        """Close the connection, as `close` does. Blocks."""
        check_blocking("runyard.close()")
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_of_this_process():
            connection.background.run(connection.close()).result()

    def connection(self) -> Connection:
        """Return the connection of this app in this process, and open it at the first call."""
        if self.backend is not None:
            return self.backend
        current = background()
        connection = self._connection
        if connection is not None and connection.background is current:
            return connection
        with current.lock:
            if self._connection is None or self._connection.background is not current:
                self._connection = Connection(
                    current,
                    self.url,
                    TokenSource(self._token),
                    enqueue_timeout=self._enqueue_timeout,
                    when_full=self._when_full,
                )
            return self._connection

    def _handle(self, call: Call[R_co], result: Created | Exception) -> Handle[R_co]:
        if isinstance(result, Exception):
            raise result
        return Handle(result.id, self.connection, call.task, created=result.created)

    def _handles(self, calls: Sequence[Call[R_co]], results: list[Created | Exception]) -> list[Handle[R_co]]:
        handles: list[Handle[R_co]] = []
        outcomes: list[Handle[R_co] | Exception] = []
        for call, result in zip(calls, results, strict=True):
            outcome = result if isinstance(result, Exception) else self._handle(call, result)
            outcomes.append(outcome)
            if isinstance(outcome, Handle):
                handles.append(outcome)
        if len(handles) < len(calls):
            raise PartlyEnqueued(outcomes)
        return handles
