"""Tasks: functions that can also be enqueued. Calling a task calls its function, here and now."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, cast

from runyard_client.errors import BadParameters, Fail, NotSerialisable, ResultTooLarge
from runyard_client.results.envelope import ResultStore, read_envelope, write_envelope
from runyard_client.tasks.call_options import (
    CallOptions,
    GivenOptions,
    merge_call_options,
    override_retries,
    override_timeout,
)
from runyard_client.tasks.calls import Call, make_call
from runyard_client.tasks.parameters import Parameters
from runyard_client.tasks.task_options import TaskOptions
from runyard_client.values import Decode, Encode, decode, encode

if TYPE_CHECKING:
    from typing import Self, Unpack

    from runyard_client.context import Run
    from runyard_client.handle import Handle

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
NEVER_RETRIED = (Fail, BadParameters, NotSerialisable, ResultTooLarge)


class TaskApp(Protocol):
    """What a task needs of the `Runyard` that it belongs to."""

    tasks: dict[str, Task[..., Any]]
    encode: Encode | None
    decode: Decode | None
    results: ResultStore | None

    async def enqueue_call(self, call: Call[R_co], /) -> Handle[R_co]: ...
    def enqueue_call_sync(self, call: Call[R_co], /) -> Handle[R_co]: ...


class Task(Generic[P, R_co]):
    """A function with a task key. `AsyncTask` and `SyncTask` are the two kinds.

    Immutable but for `app`, and safe to use from all threads.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: TaskOptions,
        app: TaskApp | None = None,
        *,
        parameters: Parameters | None = None,
        call_options: CallOptions | None = None,
        declared: Task[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), function)
        self.function = function
        self.options = options
        self.declared: Task[..., Any] = declared or self
        """The task that `with_` was called on first: the one that belongs to the app."""
        self._app = app
        self.parameters = parameters or Parameters(function)
        self.call_options = call_options or CallOptions()

    @property
    def key(self) -> str:
        """The `taskKey` of the runs."""
        return self.options.key

    @property
    def app(self) -> TaskApp | None:
        """The app that the task belongs to, or None."""
        return self.declared._app

    @app.setter
    def app(self, app: TaskApp | None) -> None:
        self.declared._app = app

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"

    def __set_name__(self, owner: type, name: str) -> NoReturn:
        raise TypeError(f"{owner.__qualname__}.{name} is a method, which cannot be a task. Use a function.")

    def with_(self, **options: Unpack[GivenOptions]) -> Self:
        """Return this task with other options for its calls.

        Raises:
            TypeError: an option is unknown or has the wrong type, or `delay` and `at` are combined.
            ValueError: a value is out of its range, or a date-time has no offset.
        """
        unknown = options.keys() - GivenOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"with_() has no option {min(unknown)!r}.")
        merged = merge_call_options(self.call_options, options)
        return type(self)(
            self.function,
            self._override(options),
            parameters=self.parameters,
            call_options=merged,
            declared=self.declared,
        )

    def _override(self, given: Mapping[str, Any]) -> TaskOptions:
        same_name = {name: given[name] for name in ("name", "version", "cache_key") if name in given}
        if given.get("cache_key", self) is None:
            same_name["cache_for"] = None
        retries = override_retries(self.options.retries, given)
        return replace(
            self.options, retries=retries, timeout=override_timeout(self.options.timeout, given), **same_name
        )

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """Return the call with these arguments, without sending it. `Runyard.enqueue_many` sends it.

        Raises:
            TypeError: the arguments do not match the signature.
            NotSerialisable: an argument has no representation in JSON.
        """
        return make_call(self, self.call_options, self.parameters.bind(args, kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]:
        """Create a task run that calls the function with these arguments in a worker.

        Raises:
            TypeError: the arguments do not match the signature.
            NotSerialisable: an argument has no representation in JSON.
            QueueFull: the queue of the task key is full.
            ServerUnavailable: there was no response in time. The run may have been created; `.key` is its key.
            Refused, NotAllowed: the server refused the run.
        """
        return await self._require_app().enqueue_call(self.call(*args, **kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]:
        """Create a task run, as `enqueue` does, and block until the server has responded.

        Raises:
            RuntimeError: an event loop is running on this thread. Use `await task.enqueue(…)`.
        """
        return self._require_app().enqueue_call_sync(self.call(*args, **kwargs))

    def _require_app(self) -> TaskApp:
        if self.app is None:
            raise RuntimeError(f"The task {self.key} belongs to no Runyard. Add it with `runyard.add(…)` first.")
        return self.app

    def encode(self, value: Any) -> Any:
        """Return `value` as plain JSON, by the encoder of the app. Raises `NotSerialisable`."""
        replaced = self.app.encode if self.app is not None else None
        return encode(replaced(value) if replaced else value)

    def decode(self, value: Any, annotation: Any) -> Any:
        """Return plain JSON as a value of the annotation, by the decoder of the app. Raises ValueError."""
        replaced = self.app.decode if self.app is not None else None
        return (replaced or decode)(value, annotation)

    def read_parameters(self, parameters: Any, run: Run | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments for `function` from the parameters of a run.

        Missing parameters keep their defaults. `run` is the argument of a first parameter that is annotated `Run`.

        Raises:
            BadParameters: a parameter is unknown, missing without a default, or does not match its annotation.
        """
        return self.parameters.read(parameters, run, self.decode)

    def write_result(self, value: Any, run_id: str | None = None) -> Any:
        """Return the data of the COMPLETED state. Blocks while a result store writes.

        Raises:
            NotSerialisable: the result has no representation in JSON.
            ResultTooLarge: the result exceeds the limit, and there is no store.
        """
        if self.options.result == "discard":
            return {"discarded": True}
        return write_envelope(self.encode(value), self._result_store(), run_id)

    def read_result(self, data: Any) -> R_co:
        """Return the result of a COMPLETED state by the return annotation. Blocks while a result store reads.

        Raises:
            NoResult: the data has no result.
            ValueError: the result does not match the return annotation.
        """
        value: R_co = self.decode(read_envelope(data, self._result_store()), self.parameters.result_annotation)
        return value

    def _result_store(self) -> ResultStore | None:
        if isinstance(self.options.result, str):
            return self.app.results if self.app is not None else None
        return self.options.result

    def is_retriable(self, error: BaseException) -> bool:
        """Return whether a run that failed with `error` is retried while retries are left.

        The first of the error's classes, from the most specific one on, that is in `fail_on` or `retry_on` decides.
        """
        if isinstance(error, NEVER_RETRIED):
            return False
        options = self.options
        for each in type(error).__mro__:
            if each in options.fail_on:
                return False
            if options.retry_on is not None and each in options.retry_on:
                return True
        return options.retry_on is None

    def cache_key_for(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the cache key of a call with these arguments by name, or None without a cache."""
        cache_key = self.options.cache_key
        return cache_key(arguments) if callable(cache_key) else cache_key


class AsyncTask(Task[P, R_co]):
    """A task of an `async def` function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function here. Nothing is enqueued."""
        return self.function(*self.parameters.with_current_run(args), **kwargs)  # type: ignore[no-any-return]


class SyncTask(Task[P, R_co]):
    """A task of a `def` function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here. Nothing is enqueued."""
        return self.function(*self.parameters.with_current_run(args), **kwargs)  # type: ignore[no-any-return]
