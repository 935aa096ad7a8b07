"""Find out whether a value that is nested too deeply contains itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from runyard_client.values.unreadable import join_path

MAX_SEARCH_DEPTH = 1_000


class _Level(NamedTuple):
    step: str
    value: Any
    children: Iterator[tuple[str, Any]]


def find_cycle(value: Any) -> str | None:
    """Return the path to a place where `value` contains one of the values around it, or None."""
    levels = [_Level("", value, _children(value))]
    open_ids = {id(value)}
    while levels:
        step, child = next(levels[-1].children, ("", levels))
        if child is levels:
            open_ids.discard(id(levels.pop().value))
        elif id(child) in open_ids:
            return _path([*(level.step for level in levels), step])
        elif len(levels) < MAX_SEARCH_DEPTH:
            levels.append(_Level(step, child, _children(child)))
            open_ids.add(id(child))
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if _is_mapping(value):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        items = [(f"[{index}]", item) for index, item in enumerate(cast("Iterable[Any]", value))]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value) if each.init]
    else:
        items = []
    return ((step, item) for step, item in items if not isinstance(item, str | int | float | None))


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _path(steps: list[str]) -> str:
    path = ""
    for step in reversed(steps):
        path = join_path(step, path) if step else path
    return path
