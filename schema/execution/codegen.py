"""Compiles selections into Python functions that complete their values.

For each field of each object, graphql-core looks up the resolver, the wrappers of the type and the serializer of the
leaf. For fields that are read from attributes, all of this is known in advance, and a selection becomes one dictionary
display. A compiled function returns what graphql-core would return, or raises an exception. The caller then falls back
to graphql-core, which also produces the error messages.
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

from schema.limits.response_size import COUNTED_TEXT_LENGTH, count_characters

MAX_CACHED_SOURCES = 500
"""Maximum number of compiled sources in the cache."""

OutputType = Any
"""A GraphQL output type. The alias in graphql-core leaves the arguments of its generic types unknown."""

CollectFields = Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet]
CompleteFunction = Callable[[Any], Any]


class NotCompilable(Exception):
    """Only graphql-core can complete this selection or value, or report its error."""


class CompletedValue:
    """A value that its resolver has already completed."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@lru_cache(maxsize=MAX_CACHED_SOURCES)
def _compile_source(source: str) -> CodeType:
    # Documents often differ only in literal arguments, and compiling is the most expensive step.
    return compile(source, "<compiled selection>", "exec")


@dataclass(frozen=True, slots=True)
class SelectedField:
    """A field without arguments."""

    attribute: str
    type: OutputType
    is_attribute: bool
    """Whether the value is read from `attribute`. Otherwise a function resolves it."""


ExpressionWriter = Callable[[SelectedField, FieldDetailsList], str]


class FunctionWriter:
    """Generates the functions for one selection. Its methods return source expressions or raise NotCompilable."""

    def __init__(self, collect: CollectFields) -> None:
        self.collect = collect
        self.leaf_expressions = LEAF_EXPRESSIONS
        """Condition and result expression for each scalar."""
        self._name_numbers = count()
        self._function_sources: list[str] = []
        self._namespace: dict[str, Any] = {
            "Fragment": orjson.Fragment,
            "object_classes": _object_classes,
            "is_object": _is_object,
            "unwrap_completed": _unwrap_completed,
        }

    def compile_functions(self) -> dict[str, Callable[..., Any]]:
        """Compile the generated functions and return a namespace that holds them by name."""
        exec(_compile_source("\n".join(self._function_sources)), self._namespace)  # noqa: S102 - source of names and literals, generated here
        return self._namespace

    def add_function(self, parameters: str, *lines: str) -> str:
        """Generate a function and return its name."""
        name = f"function_{next(self._name_numbers)}"
        self._function_sources.append("\n    ".join([f"def {name}({parameters}):", *lines]))
        return name

    def add_value(self, value: object) -> str:
        """Bind `value` in the namespace of the generated functions and return its name."""
        name = f"value_{next(self._name_numbers)}"
        self._namespace[name] = value
        return name

    def object_display(self, type_: GraphQLObjectType, fields: GroupedFieldSet, write_field: ExpressionWriter) -> str:
        """Return a dictionary display of an object's fields."""
        selected_fields = {key: selected_field(type_, details) for key, details in fields.items()}
        return _dict_display(
            {
                key: repr(type_.name) if field is None else write_field(field, fields[key])
                for key, field in selected_fields.items()
            }
        )

    def add_object_function(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """Generate a function that completes an object from the attributes of a record; return its name."""
        fields = self.collect(type_, details)
        # Rejects most selections that cannot be compiled before any source is generated.
        if not all(
            field is None or field.is_attribute for field in (selected_field(type_, each) for each in fields.values())
        ):
            raise NotCompilable
        return self._add_checked_function(type_, self.object_display(type_, fields, self._attribute_expression))

    def add_partial_object_function(
        self, type_: GraphQLObjectType, fields: GroupedFieldSet
    ) -> tuple[str, GroupedFieldSet]:
        """Generate a function like `add_object_function`, with None for fields that cannot be compiled.

        Returns its name and these fields.
        """
        remaining: GroupedFieldSet = {}
        items: dict[str, str] = {}
        for key, details in fields.items():
            source_count = len(self._function_sources)
            try:
                field = selected_field(type_, details)
                items[key] = repr(type_.name) if field is None else self._attribute_expression(field, details)
            except NotCompilable:
                del self._function_sources[source_count:]
                remaining[key] = details
                items[key] = "None"
        return self._add_checked_function(type_, _dict_display(items)), remaining

    def _add_checked_function(self, type_: GraphQLObjectType, display: str) -> str:
        if type_.is_type_of:
            check = f"if not {self.add_value(type_.is_type_of)}(source, None):"
        else:
            check = "if type(source) not in object_classes and not is_object(source):"
        return self.add_function("source", check, "    return unwrap_completed(source)", f"return {display}")

    def _attribute_expression(self, field: SelectedField, details: FieldDetailsList) -> str:
        if not field.is_attribute:
            raise NotCompilable
        return self.value_expression(field.type, details, f"source.{field.attribute}")

    def value_expression(self, type_: OutputType, details: FieldDetailsList, source: str) -> str:
        """Return an expression that completes the expression `source` as a value of this type."""
        if isinstance(type_, GraphQLNonNull):
            return self._non_null_expression(_wrapped_type(type_), details, source)
        name, binding = self._bind_expression(source)
        return f"(None if {binding} is None else {self._non_null_expression(type_, details, name)})"

    def _non_null_expression(self, type_: OutputType, details: FieldDetailsList, source: str) -> str:
        if is_leaf_type(type_):
            return self._leaf_expression(type_, source)
        if isinstance(type_, GraphQLList):
            name, binding = self._bind_expression(source)
            item = self.value_expression(_wrapped_type(type_), details, f"{name}_item")
            return f"([{item} for {name}_item in {name}] if type({binding}) is list else unwrap_completed({name}))"
        if isinstance(type_, GraphQLObjectType):
            return f"{self.add_object_function(type_, details)}({source})"
        raise NotCompilable

    def _leaf_expression(self, type_: GraphQLLeafType, source: str) -> str:
        if isinstance(type_, GraphQLEnumType):
            names = {value.value: name for name, value in type_.values.items()}
            return f"{self.add_value(names)}[{source}]"
        fallback = self.add_value(_fallback_completion(type_))
        if type_.name not in self.leaf_expressions:
            return f"{fallback}({source})"
        name, binding = self._bind_expression(source)
        condition, result = self.leaf_expressions[type_.name]
        condition = condition.replace("{}", binding, 1).replace("{}", name)
        return f"({result.replace('{}', name)} if {condition} else {fallback}({name}))"

    def _bind_expression(self, source: str) -> tuple[str, str]:
        """Return a name for the value of `source`, and an expression that binds the name."""
        if source.isidentifier():
            return source, source
        name = f"value_{next(self._name_numbers)}"
        return name, f"({name} := {source})"


def _wrapped_type(wrapper: Any) -> OutputType:
    return wrapper.of_type


LEAF_EXPRESSIONS = {
    "String": (f"type({{}}) is str and len({{}}) < {COUNTED_TEXT_LENGTH}", "{}"),
    "ID": ("type({}) is str", "{}"),
    "DateTime": ("type({}) is str", "{}"),
    "JSON": (f"type({{}}) is str and len({{}}) < {COUNTED_TEXT_LENGTH}", "Fragment({})"),
    "Boolean": ("{} is True or {} is False", "{}"),
    "Int": ("type({}) is int and -0x8000_0000 <= {} <= 0x7FFF_FFFF", "{}"),
    "Float": ("type({}) is float and {} - {} == 0", "{}"),
}
"""For each scalar, the condition for common values and their completed form.

Other values use the scalar's own serializer, which also counts long texts towards the response size.
"""

UNCOUNTED_LEAF_EXPRESSIONS = LEAF_EXPRESSIONS | {
    "String": ("type({}) is str", "{}"),
    "JSON": ("type({}) is str", "Fragment({})"),
}
"""The same for texts that are already counted towards the response size."""


_STORED_LEAF_TYPES = {"String": str, "ID": str, "DateTime": str, "JSON": str, "Int": int}
"""Scalars that are returned as stored, and the Python type of the stored value."""


def stored_leaf_expression(type_: OutputType, stored: Any, source: str) -> str | None:
    """Return an expression that completes `source`, a value of the type `stored`, as a leaf of this type.

    Returns None when the stored type does not guarantee a valid value, and each value must be checked.
    """
    may_be_null = not isinstance(type_, GraphQLNonNull)
    leaf = type_ if may_be_null else _wrapped_type(type_)
    python_type = _STORED_LEAF_TYPES.get(leaf.name) if isinstance(leaf, GraphQLScalarType) else None
    if python_type is None or stored not in ((python_type, python_type | None) if may_be_null else (python_type,)):
        return None
    if leaf.name != "JSON":
        return source
    return f"Fragment({source})" if stored is python_type else f"(None if {source} is None else Fragment({source}))"


def selected_field(type_: GraphQLObjectType, details: FieldDetailsList) -> SelectedField | None:
    """Return the selected field; None for `__typename`.

    Raises NotCompilable when the field takes arguments or belongs to introspection.
    """
    node: FieldNode = details[0].node
    if node.name.value == "__typename":
        return None
    field = type_.fields.get(node.name.value)
    definition = field and field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if field is None or field.args or not isinstance(definition, StrawberryField):
        raise NotCompilable
    return SelectedField(definition.python_name, field.type, definition.is_basic_field)  # pyright: ignore[reportUnknownMemberType]


def _dict_display(items: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key!r}: {value}" for key, value in items.items()) + "}"


_SCALAR_TYPES = {bool, int, float, str}


def _fallback_completion(type_: GraphQLScalarType) -> CompleteFunction:
    def complete(value: Any) -> Any:
        if type(value) not in _SCALAR_TYPES:
            raise NotCompilable
        completed = type_.coerce_output_value(count_characters(value) if type(value) is str else value)
        if completed is None or completed is Undefined:
            raise NotCompilable
        return completed

    return complete


_object_classes: set[type] = set()
"""Classes whose instances can be sources of fields. Excludes None, exceptions and awaitables."""


def _is_object(value: Any) -> bool:
    if (
        value is None
        or value is Undefined
        or isinstance(value, Exception | CompletedValue)
        or optimized_is_awaitable(value)
    ):
        return False
    _object_classes.add(value.__class__)
    return True


def _unwrap_completed(value: Any) -> Any:
    if type(value) is CompletedValue:
        return value.value
    raise NotCompilable
