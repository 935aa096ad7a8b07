"""Conversion of exceptions into GraphQL errors. No other module does this.

Invalid requests and refusals become errors that describe what the client must change, with `extensions.code`. Every
other exception is an internal error. It is logged with its traceback under an id, and the client receives `INTERNAL`
and the id.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from graphql import GraphQLError

from db.errors import DatabaseUnavailable, RowsLocked
from db.runtime.memory_budget import MemoryBudgetExceeded, ReadTooLarge
from resolvers.errors import ErrorCode, Refusal
from schema.hints import add_hint


class OperationTimedOut(Refusal):
    """The operation exceeded its time limit."""

    code = ErrorCode.UNAVAILABLE
    retryable = True

    def __init__(self) -> None:
        super().__init__("The operation exceeded its time limit and was cancelled. A mutation may have been committed.")


_UNAVAILABLE_MESSAGE = "The database is busy or unavailable. Retry the request."
_LOCKED_MESSAGE = "Another transaction has locked rows that the request needs. Retry the request."

SERVER_ERROR_CODES = frozenset({ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE})
"""Codes of errors that the client cannot mend by changing its request."""

log = logging.getLogger("runyard.errors")


def to_client_error(error: GraphQLError) -> GraphQLError:
    """Convert an error into the form that the client receives, and clear the tracebacks of the original."""
    translated = _translate(error)
    _clear_tracebacks(error)
    return translated


def _translate(error: GraphQLError) -> GraphQLError:
    cause = _original_cause(error)
    if cause is None:
        return _build_error(
            error, add_hint(error.message), {"code": ErrorCode.BAD_USER_INPUT, **(error.extensions or {})}
        )
    if isinstance(cause, Refusal):
        extensions: dict[str, Any] = {"code": cause.code}
        message = str(cause)
        if cause.argument is not None:
            extensions["argument"] = cause.argument
            message = f"{cause.argument}: {message}"
        if cause.retryable:
            extensions["retryable"] = True
        return _build_error(error, message, extensions)
    if isinstance(cause, ReadTooLarge):
        effect = "Nothing was changed." if cause.has_rolled_back_writes else "Changes made by a mutation are kept."
        message = f"{cause} Request fewer items, or fewer fields of each. {effect}"
        return _build_error(error, message, {"code": ErrorCode.RESPONSE_TOO_LARGE})
    if isinstance(cause, MemoryBudgetExceeded):
        message = "Large responses in progress exceed the server's memory budget. Retry, or request less data."
        return _build_error(error, message, {"code": ErrorCode.UNAVAILABLE, "retryable": True})
    if isinstance(cause, DatabaseUnavailable):
        return _build_error(
            error,
            _LOCKED_MESSAGE if isinstance(cause, RowsLocked) else _UNAVAILABLE_MESSAGE,
            {"code": ErrorCode.UNAVAILABLE, "retryable": True},
        )
    error_id = str(uuid4())
    # Several errors can share a cause, whose traceback is cleared with the first of them; the others keep their own.
    frames = cause.__traceback__ or error.__traceback__
    log.error("Internal error %s at %s", error_id, error.path, exc_info=(type(cause), cause, frames))
    return _build_error(
        error,
        f"Internal error. The server logged it with the id {error_id}.",
        {"code": ErrorCode.INTERNAL, "id": error_id},
    )


@contextmanager
def prefix_argument_path(path: str) -> Generator[None]:
    """Prefix the argument of each refusal that the block raises with `path`."""
    try:
        yield
    except Refusal as refusal:
        if refusal.argument is not None:
            refusal.argument = f"{path}.{refusal.argument}"
        raise


def _original_cause(error: GraphQLError) -> BaseException | None:
    """Return the exception behind a GraphQL error; None when GraphQL itself rejected the request."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _clear_tracebacks(error: BaseException) -> None:
    """Clear the tracebacks of an error and its causes.

    A frame that refers to its own exception forms a cycle with it. The cycle keeps all variables of the frame in memory
    until the garbage collector runs.
    """
    pending: list[BaseException | None] = [error]
    while pending:
        if (exception := pending.pop()) is not None and exception.__traceback__ is not None:
            exception.__traceback__ = None
            pending += exception.__cause__, exception.__context__, getattr(exception, "original_error", None)


def _build_error(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, None, extensions)
