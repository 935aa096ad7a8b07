"""Refusals: errors that the client can correct by changing or repeating its request.

    Refusal
    ├── BadInput              BAD_USER_INPUT  an argument is invalid
    ├── NotFound              NOT_FOUND       an argument names an object that does not exist
    ├── CreationRefused       CONFLICT        the rules do not allow a run to be created in this state
    ├── QueueFull             QUEUE_FULL      the queue of a task key has reached its limit; retryable
    ├── ClaimsInFlight        UNAVAILABLE     claims have not ended, so a queue cannot be paused; retryable
    └── ServerStopping        UNAVAILABLE     the server is shutting down; retryable

A refused item has changed nothing. The orchestration results REJECT, WAIT and ABORT are not refusals: they are returned
as data.
"""

from collections.abc import Sequence
from enum import StrEnum


class ErrorCode(StrEnum):
    """Every code of an error that a client can receive, in `extensions.code` or in a `MutationError`."""

    BAD_USER_INPUT = "BAD_USER_INPUT"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    QUEUE_FULL = "QUEUE_FULL"
    QUERY_TOO_COMPLEX = "QUERY_TOO_COMPLEX"
    RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    TOO_MANY_WRONG_TOKENS = "TOO_MANY_WRONG_TOKENS"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


class Refusal(Exception):
    """An error that the client can correct. The message is written for the client."""

    code: ErrorCode
    retryable = False
    argument: str | None = None
    """Path of the invalid argument, separated by dots; None if the error concerns no argument."""


class BadInput(Refusal):
    """An argument is invalid."""

    code = ErrorCode.BAD_USER_INPUT

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument


class NotFound(Refusal):
    """`argument` names an object that does not exist: no object of this kind has this id, or this value of `by`."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, argument: str, kind: str, id: str, *, by: str = "id") -> None:
        super().__init__(f"No {kind} has the {by} {id}.")
        self.argument = argument
        self.kind = kind
        self.id = id


def deletion_results(kind: str, ids: Sequence[str], existing: set[str]) -> list[str | Exception]:
    """Return the result for each deleted id: the id if it existed, NotFound if not or if the id is repeated."""
    results: list[str | Exception] = []
    remaining = set(existing)
    for id in ids:
        results.append(id if id in remaining else NotFound("id", kind, id))
        remaining.discard(id)
    return results


class CreationRefused(Refusal):
    """The rules do not allow a run to be created in the proposed state."""

    code = ErrorCode.CONFLICT

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.argument = "state"


class QueueFull(Refusal):
    """One side of the queue of a task key has reached its limit. The request may succeed later."""

    code = ErrorCode.QUEUE_FULL
    retryable = True

    def __init__(self, argument: str, task_key: str, *, is_retry: bool, limit: int) -> None:
        side = "retry" if is_retry else "scheduled"
        super().__init__(
            f"The queue of task key {task_key!r:.60} has reached the limit of {limit:,} waiting runs on its {side} "
            "side. Retry later."
        )
        self.argument = argument
        self.task_key = task_key
        self.is_retry = is_retry


class ClaimsInFlight(Refusal):
    """A claim has not ended in time, so a queue cannot be paused: the claim may deliver runs after the pause."""

    code = ErrorCode.UNAVAILABLE
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "The queue is not paused, because a claim has not ended within 2 seconds: a server may be suspended. Retry "
            "the request."
        )


class ServerStopping(Refusal):
    """The server is shutting down. The request may succeed on another server, or after the restart."""

    code = ErrorCode.UNAVAILABLE
    retryable = True

    def __init__(self) -> None:
        super().__init__("The server is stopping. Retry on another server or after the restart.")
