"""Plain JSON to values, by annotation. Each annotation is compiled once."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, is_typeddict

from runyard_client.values.containers import list_reader, mapping_reader, tuple_reader
from runyard_client.values.encoding import encode
from runyard_client.values.external import constraint_checker, external_decoder, external_union_decoder
from runyard_client.values.records import dataclass_reader, field_annotations, typed_dict_reader
from runyard_client.values.scalars import SCALARS
from runyard_client.values.unions import enum_reader, literal_reader, union_reader

Reader = Callable[[Any], Any]

_compiled: dict[int, tuple[Any, Reader | None]] = {}
"""Readers by the id of the annotation, which is kept: equal annotations may differ in the order of a union."""

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: lambda items: items,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    collections.abc.Sequence: lambda items: items,
    collections.abc.MutableSequence: lambda items: items,
    collections.abc.Iterable: lambda items: items,
    collections.abc.Collection: lambda items: items,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def decode(value: Any, annotation: Any) -> Any:
    """Return plain JSON as a value of the annotation; unchanged for `inspect.Parameter.empty`, `Any` and `object`.

    Raises:
        Unreadable: the value does not match the annotation. `path` locates what is wrong.
        TypeError: no value of JSON can have the annotation.
    """
    compiled = _compiled.get(id(annotation))
    if compiled is None:
        compiled = _compiled[id(annotation)] = (annotation, _compile(annotation))
    reader = compiled[1]
    return value if reader is None else reader(value)


def _compile(annotation: Any) -> Reader | None:
    """Return the reader of an annotation, or None for one that takes every value as it is."""
    if annotation in (inspect.Parameter.empty, Any, object):
        return None
    if annotation in SCALARS:
        return SCALARS[annotation]
    return _compile_special(annotation) or _compile_class(annotation, get_origin(annotation) or annotation)


def _compile_reader(annotation: Any) -> Reader:
    return _compile(annotation) or _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _compile_special(annotation: Any) -> Reader | None:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _compile_annotated(annotation)
    if origin is Literal:
        return literal_reader(get_args(annotation), encode)
    if origin in (Union, types.UnionType):
        members = get_args(annotation)
        return external_union_decoder(annotation, members) or union_reader([_compile_reader(each) for each in members])
    target = _alias_target(annotation)
    return None if target is None else _compile_reader(target)


def _alias_target(annotation: Any) -> Any:
    """Return the annotation that a NewType, a type variable or a `type` statement stands for, or None for others."""
    if isinstance(annotation, typing.NewType):
        return annotation.__supertype__
    if isinstance(annotation, TypeVar):
        return annotation.__bound__ or Union[annotation.__constraints__ or Any]  # noqa: UP007
    return getattr(annotation, "__value__", None)


def _compile_annotated(annotation: Any) -> Reader:
    base, *metadata = get_args(annotation)
    read = _compile_reader(base)
    check = constraint_checker(annotation, tuple(metadata))
    return read if check is None else lambda value: check(read(value))


def _compile_class(annotation: Any, cls: Any) -> Reader:
    arguments = get_args(annotation)
    if cls is tuple and arguments and arguments[-1] is not Ellipsis:
        return tuple_reader([_compile_reader(each) for each in arguments], len(arguments), tuple)
    if cls in _LISTS:
        return list_reader(_compile(arguments[0]) if arguments else None, _LISTS[cls])
    if cls in _MAPPINGS:
        key, item = arguments or (str, Any)
        return mapping_reader(None if key is str else _compile(key), _compile(item), lambda items: items)
    reader = None
    if isinstance(cls, type):
        reader = _compile_record(annotation, cast("type[Any]", cls))
    if reader is None:
        raise TypeError(f"Values of the type {annotation!r} cannot be read from JSON.")
    return reader


def _compile_record(annotation: Any, cls: Any) -> Reader | None:
    reader = external_decoder(annotation, cls)
    if reader is not None:
        return reader
    if issubclass(cls, Enum):
        return enum_reader(cls, encode)
    if dataclasses.is_dataclass(cls):
        return dataclass_reader(annotation, cls, _compile_reader)
    if is_typeddict(cls):
        return typed_dict_reader(annotation, cls, _compile_reader)
    if hasattr(cls, "_fields") and issubclass(cls, tuple):
        return _named_tuple_reader(annotation, cls)
    return None


def _named_tuple_reader(annotation: Any, cls: Any) -> Reader:
    annotations = field_annotations(annotation, cls)
    items = [_compile_reader(annotations.get(name, Any)) for name in cls._fields]
    return tuple_reader(items, len(items) - len(cls._field_defaults), lambda values: cls(*values))
