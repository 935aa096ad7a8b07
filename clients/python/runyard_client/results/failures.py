"""Errors of tasks as the data of a FAILED state, and back."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

from runyard_client.errors import TaskFailed

if TYPE_CHECKING:
    from runyard_client.tasks.task import Task

MAX_MESSAGE_CHARACTERS = 1_000
MAX_TRACEBACK_BYTES = 16 * 1024


def describe_error(
    error: BaseException, *, attempt: int | None = None, worker: str | None = None, retriable: bool = True
) -> tuple[str, dict[str, Any]]:
    """Return the message and the data of the FAILED state for an exception. Never raises because of the exception."""
    text = _text_of(error)
    first_line = text.partition("\n")[0].strip()
    short = type(error).__qualname__.rpartition(".")[2]
    message = f"{short}: {first_line}" if first_line else short
    data = {
        "type": type_name(type(error)),
        "message": _cut_end(text),
        "traceback": _cut_middle(_traceback_of(error)),
        "attempt": attempt,
        "worker": worker,
        "retriable": retriable,
    }
    return _cut_end(message), {"error": data}


def type_name(cls: type) -> str:
    """Return the name of a class with its module, such as `shop.errors.Away`; built-in classes without it."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def raise_task_failed(state: Mapping[str, Any], task: Task[..., Any] | None, run_id: str | None = None) -> NoReturn:
    """Raise the error of a FAILED or CRASHED state.

    Raises:
        TaskFailed: unless the task lists the class of the error in `raises`; then it is the cause of that error.
    """
    failure = make_task_failed(state, run_id)
    for cls in task.options.raises if task is not None else ():
        if type_name(cls) == failure.error_type:
            raise _make_original(cls, failure) from failure
    raise failure


def make_task_failed(state: Mapping[str, Any], run_id: str | None = None) -> TaskFailed:
    """Return the error of a FAILED or CRASHED state with `type`, `name`, `message` and `data`."""
    described = _as_object(_as_object(state.get("data")).get("error"))
    return TaskFailed(
        state.get("message") or state.get("name") or state["type"],
        error_type=described.get("type"),
        error_message=described.get("message"),
        traceback=described.get("traceback"),
        attempt=described.get("attempt"),
        worker=described.get("worker"),
        retriable=described.get("retriable"),
        crashed=state["type"] == "CRASHED",
        run_id=run_id,
    )


def _as_object(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, or else an empty one: others than this client may have written the data."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _make_original(cls: type[BaseException], failure: TaskFailed) -> BaseException:
    # Not called: the arguments of the constructor are unknown.
    message = failure.message if failure.error_message is None else failure.error_message
    error = cls.__new__(cls, message)
    error.args = (message,)
    for note in getattr(failure, "__notes__", ()):
        error.add_note(note)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except Exception:  # noqa: BLE001 - `__str__` of the user
        return "(its text cannot be rendered)"


def _traceback_of(error: BaseException) -> str:
    try:
        return _sendable("".join(traceback.format_exception(error)))
    except Exception:  # noqa: BLE001 - `__str__`, `__repr__` or `__notes__` of the user
        return "".join(traceback.format_tb(error.__traceback__))


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _cut_end(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _cut_middle(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_TRACEBACK_BYTES:
        return text
    half = (MAX_TRACEBACK_BYTES - 64) // 2
    removed = len(data) - 2 * half
    begin, end = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return f"{begin}\n… {removed:,} bytes omitted …\n{end}"
