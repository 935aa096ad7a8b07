"""Writes functions that complete plain data: Python source, compiled once for what a document selects of a type.

graphql-core finds out anew for each field of each object which resolver it has, what its type is wrapped in and how a leaf
is serialized. All that is known beforehand where a field is an attribute, so it is written down as one dictionary display.
A written function answers what the ordinary path would answer or raises; then the ordinary path is taken, which also words
the errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from types import CodeType
from typing import Any

import orjson
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    Undefined,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from schema.limits.response_size import LONG, weighed

MOST_SOURCES = 500
"""Compiled sources that are kept."""

OutputType = Any
"""A type of GraphQL's; graphql-core's own name for it leaves the arguments of its generics open."""

Collect = Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet]
Complete = Callable[[Any], Any]


class NotPlain(Exception):
    """Here is what only the ordinary path can complete, or complain about."""


class Prepared:
    """A value that a resolver has completed already."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@lru_cache(maxsize=MOST_SOURCES)
def _code(source: str) -> CodeType:
    # Documents often differ in nothing but the arguments written into them, and compiling costs the most.
    return compile(source, "<plain data>", "exec")


@dataclass(frozen=True, slots=True)
class Field:
    """A field that takes no arguments."""

    attribute: str
    type: OutputType
    is_attribute: bool
    """Whether it is read from the attribute of that name, and not resolved by a function."""


WriteField = Callable[[Field, FieldDetailsList], str]


class Writer:
    """Writes the functions for one selection. Its methods give expressions, or raise NotPlain."""

    def __init__(self, collect: Collect) -> None:
        self.collect = collect
        self.leaves = LEAVES
        """How scalars are completed."""
        self._numbers = count()
        self._functions: list[str] = []
        self._names: dict[str, Any] = {
            "Fragment": orjson.Fragment,
            "known_objects": _known_objects,
            "is_object": _is_object,
            "prepared": _prepared,
        }

    def compiled(self) -> dict[str, Callable[..., Any]]:
        """The written functions by their names."""
        exec(_code("\n".join(self._functions)), self._names)  # noqa: S102 - written here, of names and literals
        return self._names

    def function(self, parameters: str, *lines: str) -> str:
        """Write a function; its name."""
        name = f"function_{next(self._numbers)}"
        self._functions.append("\n    ".join([f"def {name}({parameters}):", *lines]))
        return name

    def name(self, value: object) -> str:
        """A name for `value` in what is written."""
        name = f"value_{next(self._numbers)}"
        self._names[name] = value
        return name

    def display(self, type_: GraphQLObjectType, fields: GroupedFieldSet, write_field: WriteField) -> str:
        """A dictionary display of an object's fields."""
        declared = {key: field_of(type_, details) for key, details in fields.items()}
        return _display(
            {
                key: repr(type_.name) if field is None else write_field(field, fields[key])
                for key, field in declared.items()
            }
        )

    def record(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """A function that completes an object from the attributes of a record."""
        fields = self.collect(type_, details)
        # Most selections that are not plain show it at once, before anything is written.
        if not all(
            field is None or field.is_attribute for field in (field_of(type_, each) for each in fields.values())
        ):
            raise NotPlain
        return self._record_function(type_, self.display(type_, fields, self._attribute))

    def part_of_record(self, type_: GraphQLObjectType, fields: GroupedFieldSet) -> tuple[str, GroupedFieldSet]:
        """As `record`, but with None for the fields that are not plain; and these fields."""
        rest: GroupedFieldSet = {}
        items: dict[str, str] = {}
        for key, details in fields.items():
            written = len(self._functions)
            try:
                field = field_of(type_, details)
                items[key] = repr(type_.name) if field is None else self._attribute(field, details)
            except NotPlain:
                del self._functions[written:]
                rest[key] = details
                items[key] = "None"
        return self._record_function(type_, _display(items)), rest

    def _record_function(self, type_: GraphQLObjectType, display: str) -> str:
        if type_.is_type_of:
            check = f"if not {self.name(type_.is_type_of)}(source, None):"
        else:
            check = "if type(source) not in known_objects and not is_object(source):"
        return self.function("source", check, "    return prepared(source)", f"return {display}")

    def _attribute(self, field: Field, details: FieldDetailsList) -> str:
        if not field.is_attribute:
            raise NotPlain
        return self.value(field.type, details, f"source.{field.attribute}")

    def value(self, type_: OutputType, details: FieldDetailsList, source: str) -> str:
        """An expression that completes `source`, an expression, as a value of this type."""
        if isinstance(type_, GraphQLNonNull):
            return self._not_null(_inner(type_), details, source)
        name, binding = self._bound(source)
        return f"(None if {binding} is None else {self._not_null(type_, details, name)})"

    def _not_null(self, type_: OutputType, details: FieldDetailsList, source: str) -> str:
        if is_leaf_type(type_):
            return self._leaf(type_, source)
        if isinstance(type_, GraphQLList):
            name, binding = self._bound(source)
            item = self.value(_inner(type_), details, f"{name}_item")
            return f"([{item} for {name}_item in {name}] if type({binding}) is list else prepared({name}))"
        if isinstance(type_, GraphQLObjectType):
            return f"{self.record(type_, details)}({source})"
        raise NotPlain

    def _leaf(self, type_: GraphQLLeafType, source: str) -> str:
        if isinstance(type_, GraphQLEnumType):
            names = {value.value: name for name, value in type_.values.items()}
            return f"{self.name(names)}[{source}]"
        slowly = self.name(_slowly(type_))
        if type_.name not in self.leaves:
            return f"{slowly}({source})"
        name, binding = self._bound(source)
        test, result = self.leaves[type_.name]
        test = test.replace("{}", binding, 1).replace("{}", name)
        return f"({result.replace('{}', name)} if {test} else {slowly}({name}))"

    def _bound(self, source: str) -> tuple[str, str]:
        """A name for the value of `source`, and an expression that gives it that name."""
        if source.isidentifier():
            return source, source
        name = f"value_{next(self._numbers)}"
        return name, f"({name} := {source})"


def _inner(wrapper: Any) -> OutputType:
    return wrapper.of_type


LEAVES = {
    "String": (f"type({{}}) is str and len({{}}) < {LONG}", "{}"),
    "ID": ("type({}) is str", "{}"),
    "DateTime": ("type({}) is str", "{}"),
    "JSON": (f"type({{}}) is str and len({{}}) < {LONG}", "Fragment({})"),
    "Boolean": ("{} is True or {} is False", "{}"),
    "Int": ("type({}) is int and -0x8000_0000 <= {} <= 0x7FFF_FFFF", "{}"),
    "Float": ("type({}) is float and {} - {} == 0", "{}"),
}
"""For each scalar, what its usual values are and what they become. The others go through the scalar's own function, and
long texts are weighed there."""

LEAVES_OF_ANY_LENGTH = LEAVES | {"String": ("type({}) is str", "{}"), "JSON": ("type({}) is str", "Fragment({})")}
"""The same for texts that have been weighed already."""


_KNOWN_LEAVES = {"String": str, "ID": str, "DateTime": str, "JSON": str, "Int": int}
"""Scalars that are answered as they are stored, and what they are stored as."""


def known_leaf(type_: OutputType, stored: Any, source: str) -> str | None:
    """An expression that completes `source`, whose value is what `stored` says, as a leaf of this type.

    None where that says too little: the value has to be looked at.
    """
    may_be_null = not isinstance(type_, GraphQLNonNull)
    leaf = type_ if may_be_null else _inner(type_)
    known = _KNOWN_LEAVES.get(leaf.name) if isinstance(leaf, GraphQLScalarType) else None
    if known is None or stored not in ((known, known | None) if may_be_null else (known,)):
        return None
    if leaf.name != "JSON":
        return source
    return f"Fragment({source})" if stored is known else f"(None if {source} is None else Fragment({source}))"


def field_of(type_: GraphQLObjectType, details: FieldDetailsList) -> Field | None:
    """The field that is selected; None for `__typename`. NotPlain where it takes arguments or is GraphQL's own."""
    node: FieldNode = details[0].node
    if node.name.value == "__typename":
        return None
    field = type_.fields.get(node.name.value)
    definition = field and field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if field is None or field.args or not isinstance(definition, StrawberryField):
        raise NotPlain
    return Field(definition.python_name, field.type, definition.is_basic_field)  # pyright: ignore[reportUnknownMemberType]


def _display(items: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key!r}: {value}" for key, value in items.items()) + "}"


_SIMPLE = {bool, int, float, str}


def _slowly(type_: GraphQLScalarType) -> Complete:
    def complete(value: Any) -> Any:
        if type(value) not in _SIMPLE:
            raise NotPlain
        completed = type_.coerce_output_value(weighed(value) if type(value) is str else value)
        if completed is None or completed is Undefined:
            raise NotPlain
        return completed

    return complete


_known_objects: set[type] = set()
"""Classes whose instances may be sources of fields. Neither None, nor exceptions, nor anything that is to be awaited."""


def _is_object(value: Any) -> bool:
    if value is None or value is Undefined or isinstance(value, Exception | Prepared) or optimized_is_awaitable(value):
        return False
    _known_objects.add(value.__class__)
    return True


def _prepared(value: Any) -> Any:
    if type(value) is Prepared:
        return value.value
    raise NotPlain
