"""Coerces variables and arguments with functions that are built once for each type, operation and field.

graphql-core rebuilds the types of variables for each request and visits every field of an input type. A filter has
dozens of fields, and a request sets two or three of them. The others matter only when they are required or have a
default value. When a value is invalid, coercion raises CoercionFailed, and graphql-core repeats it to produce the
error.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, cast

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    Undefined,
    ValueNode,
    VariableNode,
    is_required_argument,
    is_required_input_field,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource
from graphql.utilities.coerce_input_value import (
    coerce_default_value,
    coerce_input_literal,  # pyright: ignore[reportUnknownVariableType]
)

Coercer = Callable[[Any], Any]
"""Returns the value as resolvers receive it; Undefined when it is not a valid value of the type."""

MAX_CACHED_TYPES = 500
"""Maximum number of input object types whose coercers are cached. The schema has about thirty."""


class CoercionFailed(Exception):
    """A value is invalid. The caller falls back to graphql-core, which reports the error."""


class VariableCoercer:
    """Coerces the variables of one operation."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        """Raise CoercionFailed when a variable has an unknown type or an invalid default value."""
        self.boolean_variables: list[str] = []
        """Boolean variables: the only ones that `@skip` and `@include` accept."""
        self._definitions: list[tuple[Any, Coercer, Any, bool]] = []
        for definition in operation.variable_definitions or ():
            signature = get_variable_signature(schema, definition)
            if isinstance(signature, GraphQLError):
                raise CoercionFailed
            type_ = cast("Any", signature).type
            self._definitions.append(
                (signature, build_coercer(type_), _default_value(signature), isinstance(type_, GraphQLNonNull))
            )
            if str(type_) in ("Boolean", "Boolean!"):
                self.boolean_variables.append(signature.name)

    def coerce(self, values: Mapping[str, Any]) -> VariableValues:
        """Coerce variables from JSON. Raises CoercionFailed when a value is invalid."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for signature, coerce, default, is_required in self._definitions:
            name, value = signature.name, values.get(signature.name, Undefined)
            sources[name] = VariableValueSource(signature, value)
            if value is not Undefined:
                coerced[name] = value = coerce(value)
                if value is Undefined:
                    raise CoercionFailed
            elif default is not Undefined:
                coerced[name] = default
            elif is_required:
                raise CoercionFailed
        return VariableValues(sources, coerced)


class ArgumentCoercer:
    """Coerces the arguments of one field node. Fragments that define variables are not supported."""

    def __init__(self, field: GraphQLField, node: FieldNode) -> None:
        """Raise CoercionFailed when an argument has an invalid literal or a required argument is missing."""
        values = {argument.name.value: argument.value for argument in node.arguments or ()}
        self._constants: dict[str, Any] = {}
        self._variables: list[tuple[str, str, Any, bool, bool]] = []
        self._literals_with_variables: list[tuple[str, ValueNode, Any]] = []
        for name, argument in field.args.items():
            out_name, value = argument.out_name or name, values.get(name)
            type_ = cast("Any", argument).type
            is_required, default = is_required_argument(argument), _default_value(argument)
            if isinstance(value, VariableNode):
                not_null = isinstance(type_, GraphQLNonNull)
                self._variables.append((out_name, value.name.value, default, is_required, not_null))
            elif value is not None and _has_variables(value):
                self._literals_with_variables.append((out_name, value, type_))
            elif value is not None:
                self._constants[out_name] = _require_defined(coerce_input_literal(value, type_))
            elif default is not Undefined:
                self._constants[out_name] = default
            elif is_required:
                raise CoercionFailed

    def coerce(self, variables: VariableValues) -> dict[str, Any]:
        """Coerce the arguments with these variables. Raises CoercionFailed when a value is invalid."""
        coerced = self._constants.copy()
        for name, variable, default, is_required, not_null in self._variables:
            value = variables.coerced.get(variable, Undefined)
            if (value is None and not_null) or (value is Undefined and is_required):
                raise CoercionFailed
            if value is Undefined:
                value = default
            if value is not Undefined:
                coerced[name] = value
        for name, node, type_ in self._literals_with_variables:
            coerced[name] = _require_defined(coerce_input_literal(node, type_, variables))
        return coerced


def _has_variables(node: ValueNode) -> bool:
    if isinstance(node, ListValueNode):
        return any(map(_has_variables, node.values))
    if isinstance(node, ObjectValueNode):
        return any(_has_variables(field.value) for field in node.fields)
    return isinstance(node, VariableNode)


def _require_defined(value: Any) -> Any:
    if value is Undefined:
        raise CoercionFailed
    return value


def _default_value(argument: Any) -> Any:
    """Return the default value of an argument or variable; Undefined when it has none."""
    try:
        return coerce_default_value(argument)
    except TypeError:
        raise CoercionFailed from None


def build_coercer(type_: Any, null_value: Any = None) -> Coercer:
    """Return a function that coerces JSON values to this type and returns `null_value` for null."""
    if isinstance(type_, GraphQLNonNull):
        return build_coercer(cast("Any", type_).of_type, null_value=Undefined)
    if isinstance(type_, GraphQLInputObjectType):
        return _build_object_coercer(type_, null_value)
    if isinstance(type_, GraphQLList):
        return _build_list_coercer(type_, null_value)
    return _build_leaf_coercer(type_.coerce_input_value, null_value)


def _build_leaf_coercer(coerce_input: Coercer, null_value: Any) -> Coercer:
    def coerce(value: Any) -> Any:
        if value is None:
            return null_value
        try:
            return coerce_input(value)
        except Exception:  # noqa: BLE001 - graphql-core reports the error
            return Undefined

    return coerce


def _build_list_coercer(type_: Any, null_value: Any) -> Coercer:
    coerce_item = build_coercer(type_.of_type)

    def coerce(value: Any) -> Any:
        if value is None:
            return null_value
        # GraphQL coerces a single value to a list of one item.
        coerced: list[Any] = []
        items: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        for item in items:
            if (coerced_item := coerce_item(item)) is Undefined:
                return Undefined
            coerced.append(coerced_item)
        return coerced

    return coerce


@lru_cache(MAX_CACHED_TYPES)
def _build_object_coercer(type_: Any, null_value: Any) -> Coercer:
    # Types refer to each other and to themselves, and their coercers can only be built on first use.
    fields_of = cache(partial(_build_field_coercers, type_))

    def coerce(value: Any) -> Any:
        if not isinstance(value, dict):
            return null_value if value is None else Undefined
        fields, required_or_defaulted = fields_of()
        values: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        coerced: dict[str, Any] = {}
        for name, item in values.items():
            out_name, coerce_field = fields.get(name, _UNKNOWN_FIELD)
            if (coerced_item := coerce_field(item)) is Undefined:
                return Undefined
            coerced[out_name] = coerced_item
        for name, out_name, default in required_or_defaulted:
            if name not in values:
                if default is Undefined:
                    return Undefined
                coerced[out_name] = default
        if type_.is_one_of and (len(values) != 1 or None in coerced.values()):
            return Undefined
        return type_.out_type(coerced)

    return coerce


_UNKNOWN_FIELD: tuple[str, Coercer] = "", lambda _value: Undefined
"""Entry for fields that the type does not define."""


def _build_field_coercers(type_: Any) -> tuple[dict[str, tuple[str, Coercer]], Sequence[tuple[str, str, Any]]]:
    """Return the name for resolvers and the coercer of each field, and the fields that are required or have a default.

    Each required or defaulted field comes with its GraphQL name, its name for resolvers, and its default value.
    """
    fields = {name: (field.out_name or name, build_coercer(field.type)) for name, field in type_.fields.items()}
    required_or_defaulted = [
        (name, fields[name][0], coerce_default_value(field))
        for name, field in type_.fields.items()
        if _is_required_or_has_default(field)
    ]
    return fields, required_or_defaulted


def _is_required_or_has_default(field: GraphQLInputField) -> bool:
    return is_required_input_field(field) or coerce_default_value(field) is not Undefined
