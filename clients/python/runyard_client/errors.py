"""Exceptions of the client, and the exceptions that a task raises to decide how its run ends.

Every error that the client raises on its own account is a `RunyardError`. `Fail`, `Retry`, `Snooze` and `Cancelled` are
control flow within tasks and are not.
"""

from __future__ import annotations

from typing import Any


class RunyardError(Exception):
    """Base class of all errors of this client."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds an exception from its positional arguments alone, which fails for keyword-only arguments.
        return _rebuild_error, (type(self), self.args, self.__dict__)


def _rebuild_error(error_class: type[RunyardError], arguments: tuple[Any, ...], state: dict[str, Any]) -> RunyardError:
    error = error_class.__new__(error_class, *arguments)
    error.__dict__.update(state)
    return error


class Refused(RunyardError):
    """The server refused the request permanently: the request must be changed.

    `code` is the `extensions.code` of the server, such as `BAD_USER_INPUT`, `NOT_FOUND` or `CONFLICT`. `argument` is the
    path of the argument that must be changed, or None.
    """

    def __init__(self, message: str, *, code: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.argument = argument


class NotAllowed(RunyardError):
    """The token is missing or invalid (`UNAUTHENTICATED`), or its scopes do not allow the operation (`FORBIDDEN`)."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class QueueFull(RunyardError):
    """The queue of the task key has reached its limit. No task run was created."""


class ServerUnavailable(RunyardError):
    """The server did not respond, or was temporarily unable to execute the request, until the time-out.

    The request may have been executed. `key` is the `dynamicKey` of the task run that may have been created: enqueueing
    with the same `key` again cannot create a second run. `retry_after` is the delay in seconds that the server asked for.
    """

    def __init__(self, message: str, *, key: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.retry_after = retry_after


class ServerTooOld(RunyardError):
    """The server does not have a field or an argument that this version of the client uses."""

    def __init__(self, needs: str, found: str) -> None:
        super().__init__(f"This version of runyard-client needs {needs}; the server has version {found}.")
        self.needs = needs
        self.found = found


class NotSerialisable(RunyardError):
    """A value has no representation in JSON.

    `path` locates it, such as `pages[3].title`; it is empty for the whole value.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.reason = message
        self.path = path


class BadParameters(RunyardError):
    """The parameters of a run do not match the function. `parameter` locates the value, such as `pages[3].title`."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(f"{parameter}: {message}" if parameter else message)
        self.reason = message
        self.parameter = parameter


class ResultTooLarge(RunyardError):
    """A result exceeds the size limit, and the task has no result store. `size` and `limit` are in bytes of JSON."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"The result must not exceed {limit:,} bytes; got {size:,}. Configure a result store.")
        self.size = size
        self.limit = limit


class RequestTooLarge(RunyardError):
    """A request or its response exceeds a size limit of the server. `code` is the error code or the HTTP status."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class TaskFailed(RunyardError):
    """The run ended FAILED or CRASHED.

    `message` is the message of the state, such as `ValueError: not an address`. `error_type` is the full name of the
    exception's class in the worker, `error_message` its text, and `traceback` the traceback of the worker, which is among
    the notes of this exception too. They are None if something else than a worker of this client ended the run.
    `crashed` is whether the worker was lost.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str | None = None,
        error_message: str | None = None,
        traceback: str | None = None,
        attempt: int | None = None,
        worker: str | None = None,
        retriable: bool | None = None,
        crashed: bool = False,
        run_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback
        self.attempt = attempt
        self.worker = worker
        self.retriable = retriable
        self.crashed = crashed
        self.run_id = run_id
        if traceback:
            self.add_note(f"Traceback of the worker:\n{traceback.rstrip()}")


class TaskCancelled(RunyardError):
    """The run was cancelled before it finished."""


class TaskDeleted(RunyardError):
    """The run does not exist, or was deleted."""


class NoResult(RunyardError):
    """The run is COMPLETED and has no result: its task discards results, or something else than this client ended it."""


class NoRun(RunyardError):
    """No task run is being executed here."""


class Fail(Exception):
    """Raised within a task: end the run as FAILED, without a retry."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class Retry(Exception):
    """Raised within a task: execute the run again `after` this many seconds. Counts as one of the task's retries.

    The run ends as FAILED with `message` when no retries are left.
    """

    def __init__(self, after: float = 0.0, message: str | None = None) -> None:
        _check_delay("after", after)
        super().__init__(message or "The task requested a retry.")
        self.after = float(after)
        self.message = message


class Snooze(Exception):
    """Raised within a task: release the run and execute it again after `seconds`. Does not count as an attempt."""

    def __init__(self, seconds: float) -> None:
        _check_delay("seconds", seconds, MAX_RELEASE_SECONDS)
        super().__init__(f"Released for {seconds:g} seconds.")
        self.seconds = float(seconds)


class Cancelled(Exception):
    """Raised by `current_run().check()` when the run must stop: it was cancelled, timed out or lost its lease."""

    def __init__(self, message: str = "The run was cancelled.") -> None:
        super().__init__(message)


MAX_DELAY_SECONDS = 315_360_000
"""Largest delay of a scheduled run that the server accepts, in seconds (ten years)."""

MAX_RELEASE_SECONDS = 86_400
"""Largest delay of a released run that the server accepts, in seconds."""


def _check_delay(argument: str, seconds: float, limit: int = MAX_DELAY_SECONDS) -> None:
    if not 0 <= seconds <= limit:  # also false for NaN
        raise ValueError(f"`{argument}` must be between 0 and {limit:,} seconds; got {seconds!r}.")
