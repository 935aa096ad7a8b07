"""Error of a value that does not match an annotation."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a Boolean",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
}


class Unreadable(ValueError):
    """A JSON value does not match the annotation. `path` locates it, such as `[3].title`; `reason` says what is wrong."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path

    def within(self, step: str) -> Unreadable:
        """Return the error as seen from the containing value. `step` is `.name` or `[index]`."""
        return Unreadable(self.reason, join_path(step, self.path))


def join_path(step: str, path: str) -> str:
    """Return `path` below `step`: `pages` and `[3].title`, or `title`."""
    return f"{step}.{path}" if path and not path.startswith("[") else step + path


def read_list(value: Any) -> list[Any]:
    """Return the value if it is a list. Raises `Unreadable`."""
    if not _is_list(value):
        raise wrong_type("a list", value)
    return value


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def read_object(value: Any) -> dict[str, Any]:
    """Return the value if it is an object. Raises `Unreadable`."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise wrong_type("an object", value)


def wrong_type(expected: str, value: object) -> Unreadable:
    """Return the error for a value of another type. The value itself is not told: parameters are never logged."""
    return Unreadable(f"must be {expected}; got {_json_type(value)}.")


def _json_type(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)
