"""Readers of lists, sets, tuples and mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runyard_client.values.unreadable import Unreadable, read_list, read_object

Reader = Callable[[Any], Any]


def list_reader(item: Reader | None, make: Callable[[list[Any]], Any]) -> Reader:
    """Return the reader of a list whose items have one type. `make` turns the list into the container."""

    def read(value: Any) -> Any:
        values = read_list(value)
        return make(values if item is None else _read_items(item, values))

    return read


def _read_items(item: Reader, value: list[Any]) -> list[Any]:
    items: list[Any] = []
    try:
        for each in value:
            items.append(item(each))  # noqa: PERF401 - the index of a failed item is the length
    except Unreadable as error:
        raise error.within(f"[{len(items)}]") from None
    return items


def tuple_reader(items: Sequence[Reader], required: int, make: Callable[[list[Any]], Any]) -> Reader:
    """Return the reader of a list with one type for each item, of which the last ones may be missing."""
    length = f"{required}" if required == len(items) else f"{required} to {len(items)}"

    def read(value: Any) -> Any:
        values = read_list(value)
        if not required <= len(values) <= len(items):
            raise Unreadable(f"must have {length} items; got {len(values)}.")
        return make(_read_each(zip(items, values, strict=False)))

    return read


def _read_each(pairs: Iterable[tuple[Reader, Any]]) -> list[Any]:
    items: list[Any] = []
    try:
        for item, each in pairs:
            items.append(item(each))
    except Unreadable as error:
        raise error.within(f"[{len(items)}]") from None
    return items


def mapping_reader(key: Reader | None, item: Reader | None, make: Callable[[dict[Any, Any]], Any]) -> Reader:
    """Return the reader of an object whose keys and values have one type each."""

    def read(value: Any) -> Any:
        values = read_object(value)
        return make({_read_key(key, name): _read_item(item, name, each) for name, each in values.items()})

    return read


def _read_key(key: Reader | None, name: str) -> Any:
    try:
        return name if key is None else key(name)
    except Unreadable as error:
        raise Unreadable(f"the key {error.reason}", name) from None


def _read_item(item: Reader | None, name: str, value: Any) -> Any:
    try:
        return value if item is None else item(value)
    except Unreadable as error:
        raise error.within(name) from None
