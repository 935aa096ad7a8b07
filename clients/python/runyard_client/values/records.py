"""Readers of objects with named fields: dataclasses and TypedDict."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, Required, get_args, get_origin

from runyard_client.values.unreadable import Unreadable, read_object

Reader = Callable[[Any], Any]


class RecordReader:
    """Reads an object with named fields. Unknown fields are ignored: new ones can be added.

    Fields are compiled at the first use, since a class may contain itself.
    """

    def __init__(self, compile_fields: Callable[[], dict[str, Reader]], required: frozenset[str], make: Any) -> None:
        self._compile_fields = compile_fields
        self._fields: dict[str, Reader] | None = None
        self._required = required
        self._make = make

    @property
    def fields(self) -> dict[str, Reader]:
        """Readers by name of the field."""
        if self._fields is None:
            self._fields = self._compile_fields()
        return self._fields

    def __call__(self, value: Any) -> Any:
        given = read_object(value)
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, read in self.fields.items():
                if name in given:
                    values[name] = read(given[name])
                elif name in self._required:
                    raise Unreadable("is required and missing.")
        except Unreadable as error:
            raise error.within(name) from None
        return _make_checked(self._make, values)


def _make_checked(make: Any, values: dict[str, Any]) -> Any:
    try:
        return make(**values)
    except (ValueError, TypeError) as error:  # of `__post_init__`
        raise Unreadable(f"{error}") from error


def field_annotations(annotation: Any, cls: type) -> dict[str, Any]:
    """Return the resolved annotations of the fields, with the type arguments of a generic class filled in.

    Raises:
        TypeError: an annotation refers to a name that does not exist, such as one that is imported for type checkers only.
    """
    names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    try:
        hints = typing.get_type_hints(cls, localns=names | {cls.__name__: cls}, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"The annotations of {cls.__module__}.{cls.__qualname__} cannot be resolved: {error}."
        ) from error
    parameters = getattr(cls, "__parameters__", ())
    arguments = dict(zip(parameters, get_args(annotation), strict=False))
    return {name: _substitute(hint, arguments) for name, hint in hints.items()}


def _substitute(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    if type(hint) is typing.TypeVar:
        return arguments.get(hint, hint)
    open_parameters = getattr(hint, "__parameters__", ())
    if not arguments or not open_parameters or isinstance(hint, type):
        return hint
    return hint[tuple(arguments.get(each, each) for each in open_parameters)]


def dataclass_reader(annotation: Any, cls: Any, compile_reader: Callable[[Any], Reader]) -> RecordReader:
    """Return the reader of a dataclass."""
    fields = [each for each in dataclasses.fields(cls) if each.init]
    required = [
        each.name
        for each in fields
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]

    def compile_fields() -> dict[str, Reader]:
        annotations = field_annotations(annotation, cls)
        return {each.name: compile_reader(annotations[each.name]) for each in fields}

    return RecordReader(compile_fields, frozenset(required), cls)


def typed_dict_reader(annotation: Any, cls: Any, compile_reader: Callable[[Any], Reader]) -> RecordReader:
    """Return the reader of a TypedDict."""
    annotations = field_annotations(annotation, cls)

    def is_required(name: str) -> bool:
        # `__required_keys__` overlooks the qualifiers of string annotations.
        origin = get_origin(annotations[name])
        return name in cls.__required_keys__ if origin not in (Required, NotRequired) else origin is Required

    def compile_fields() -> dict[str, Reader]:
        return {name: compile_reader(_unqualified(each)) for name, each in annotations.items()}

    return RecordReader(compile_fields, frozenset(filter(is_required, annotations)), dict)


def _unqualified(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) in (Required, NotRequired) else annotation
