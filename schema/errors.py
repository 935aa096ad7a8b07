"""The one place where refusals and faults become GraphQL errors.

A request that is at fault, and a refusal, tell the client what to change, with `extensions.code`. Everything else is a
fault of ours: it is logged whole under an id, and the client gets `INTERNAL` and the id.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from graphql import GraphQLError

from resolvers.errors import Refusal
from resolvers.ids import new_id
from resolvers.storage import DatabaseUnavailable, TooMuchAtOnce, TooMuchToRead

Result = TypeVar("Result")


class OutOfTime(Refusal):
    """The operation took longer than one may."""

    code = "UNAVAILABLE"
    retryable = True

    def __init__(self) -> None:
        super().__init__("This took too long and was given up; what it had begun to write may be written.")


log = logging.getLogger("runyard.errors")


def public_error(error: GraphQLError) -> GraphQLError:
    """The error as the client is to see it. Where it was raised is forgotten."""
    told = _told(error)
    _forget_frames(error)
    return told


def _told(error: GraphQLError) -> GraphQLError:
    cause = _cause(error)
    if cause is None:
        return _coded(error, error.message, {"code": "BAD_USER_INPUT", **(error.extensions or {})})
    if isinstance(cause, Refusal):
        extensions: dict[str, Any] = {"code": cause.code}
        message = str(cause)
        if cause.argument is not None:
            extensions["argument"] = cause.argument
            message = f"{cause.argument}: {message}"
        if cause.retryable:
            extensions["retryable"] = True
        return _coded(error, message, extensions)
    if isinstance(cause, TooMuchToRead):
        changed = "nothing was changed" if cause.kept_from_writing else "what a mutation has changed stays changed"
        message = f"{cause} Ask for fewer runs at once, or for less of each; {changed}."
        return _coded(error, message, {"code": "ANSWER_TOO_LARGE"})
    if isinstance(cause, TooMuchAtOnce):
        message = "Too many large answers are under way; try again, or ask for less."
        return _coded(error, message, {"code": "UNAVAILABLE", "retryable": True})
    if isinstance(cause, DatabaseUnavailable):
        return _coded(error, "The database is busy or away; try again.", {"code": "UNAVAILABLE", "retryable": True})
    fault = new_id()
    # Several fields may share one cause, whose frames are forgotten with the first; each error has its own note of them.
    frames = cause.__traceback__ or error.__traceback__
    log.error("Fault %s at %s", fault, error.path, exc_info=(type(cause), cause, frames))
    return _coded(error, f"An internal error; the server's log has it as {fault}.", {"code": "INTERNAL", "id": fault})


@contextmanager
def naming(path: str) -> Generator[None]:
    """Put `path` before the argument that a refusal from below names."""
    try:
        yield
    except Refusal as refusal:
        if refusal.argument is not None:
            refusal.argument = f"{path}.{refusal.argument}"
        raise


def _cause(error: GraphQLError) -> BaseException | None:
    """What was raised; None where GraphQL itself finds fault with the request."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _forget_frames(error: BaseException) -> None:
    """A frame that keeps its error is kept by it, and so are all variables, until the garbage collector comes by."""
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (each := waiting.pop()) is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            waiting += each.__cause__, each.__context__, getattr(each, "original_error", None)


def _coded(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, None, extensions)


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why one row of a bulk mutation was refused."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RowResult(Generic[Result]):
    """One row of a bulk mutation: what came of it, or why it was refused."""

    id: str
    result: Result | None
    error: RowFault | None


def row_result(id: str, result: Result | Exception) -> RowResult[Result]:
    """The row for a result; raises what is no refusal."""
    if isinstance(result, Refusal):
        return RowResult(id, None, RowFault(result.code, str(result)))
    if isinstance(result, Exception):
        raise result
    return RowResult(id, result, None)
