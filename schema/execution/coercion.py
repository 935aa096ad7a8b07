"""Reads variables and arguments by functions that are made once for each type, each operation and each field.

graphql-core makes the types of variables anew for each request, and looks at each field that a type of inputs has: a filter
has dozens, of which a request gives two or three. What it would do with the others is nothing, unless one is required or has
a default value. Where anything is not as it has to be, nothing is read: graphql-core is to say why.
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

Coerce = Callable[[Any], Any]
"""Gives the value as resolvers get it; Undefined where it is none of the type."""

MOST_TYPES = 500
"""Types of objects whose functions are kept; a schema has some thirty."""


class Unreadable(Exception):
    """graphql-core is to say what is wrong."""


class Variables:
    """The variables of one operation."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        """Unreadable where one has a type that there is not, or a default value that it can not have."""
        self.booleans: list[str] = []
        """Those that can be used in `@skip` and `@include`."""
        self._each: list[tuple[Any, Coerce, Any, bool]] = []
        for definition in operation.variable_definitions or ():
            signature = get_variable_signature(schema, definition)
            if isinstance(signature, GraphQLError):
                raise Unreadable
            type_ = cast("Any", signature).type
            self._each.append((signature, coercer(type_), _default(signature), isinstance(type_, GraphQLNonNull)))
            if str(type_) in ("Boolean", "Boolean!"):
                self.booleans.append(signature.name)

    def read(self, given: Mapping[str, Any]) -> VariableValues:
        """The variables, from JSON. Unreadable where one is not as it has to be."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for signature, coerce, default, is_required in self._each:
            name, value = signature.name, given.get(signature.name, Undefined)
            sources[name] = VariableValueSource(signature, value)
            if value is not Undefined:
                coerced[name] = value = coerce(value)
                if value is Undefined:
                    raise Unreadable
            elif default is not Undefined:
                coerced[name] = default
            elif is_required:
                raise Unreadable
        return VariableValues(sources, coerced)


class Arguments:
    """The arguments of one field as a document has it, outside of fragments with variables of their own."""

    def __init__(self, field: GraphQLField, node: FieldNode) -> None:
        """Unreadable where one has a value that it can not have."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        self._fixed: dict[str, Any] = {}
        self._variables: list[tuple[str, str, Any, bool, bool]] = []
        self._mixed: list[tuple[str, ValueNode, Any]] = []
        for name, argument in field.args.items():
            out_name, value = argument.out_name or name, given.get(name)
            type_ = cast("Any", argument).type
            is_required, default = is_required_argument(argument), _default(argument)
            if isinstance(value, VariableNode):
                not_null = isinstance(type_, GraphQLNonNull)
                self._variables.append((out_name, value.name.value, default, is_required, not_null))
            elif value is not None and _has_variables(value):
                self._mixed.append((out_name, value, type_))
            elif value is not None:
                self._fixed[out_name] = _readable(coerce_input_literal(value, type_))
            elif default is not Undefined:
                self._fixed[out_name] = default
            elif is_required:
                raise Unreadable

    def read(self, variables: VariableValues) -> dict[str, Any]:
        """The arguments with these variables. Unreadable where one is not as it has to be."""
        read = self._fixed.copy()
        for name, variable, default, is_required, not_null in self._variables:
            value = variables.coerced.get(variable, Undefined)
            if (value is None and not_null) or (value is Undefined and is_required):
                raise Unreadable
            if value is Undefined:
                value = default
            if value is not Undefined:
                read[name] = value
        for name, node, type_ in self._mixed:
            read[name] = _readable(coerce_input_literal(node, type_, variables))
        return read


def _has_variables(node: ValueNode) -> bool:
    if isinstance(node, ListValueNode):
        return any(map(_has_variables, node.values))
    if isinstance(node, ObjectValueNode):
        return any(_has_variables(field.value) for field in node.fields)
    return isinstance(node, VariableNode)


def _readable(value: Any) -> Any:
    if value is Undefined:
        raise Unreadable
    return value


def _default(argument: Any) -> Any:
    """The default value of an argument or variable; Undefined where it has none."""
    try:
        return coerce_default_value(argument)
    except TypeError:
        raise Unreadable from None


def coercer(type_: Any, null: Any = None) -> Coerce:
    """The function that coerces values of JSON to this type, and gives `null` for null."""
    if isinstance(type_, GraphQLNonNull):
        return coercer(cast("Any", type_).of_type, null=Undefined)
    if isinstance(type_, GraphQLInputObjectType):
        return _object_coercer(type_, null)
    if isinstance(type_, GraphQLList):
        return _list_coercer(type_, null)
    return _leaf_coercer(type_.coerce_input_value, null)


def _leaf_coercer(coerce_input: Coerce, null: Any) -> Coerce:
    def coerce(value: Any) -> Any:
        if value is None:
            return null
        try:
            return coerce_input(value)
        except Exception:  # noqa: BLE001 - whatever it is, graphql-core is to say it
            return Undefined

    return coerce


def _list_coercer(type_: Any, null: Any) -> Coerce:
    coerce_item = coercer(type_.of_type)

    def coerce(value: Any) -> Any:
        if value is None:
            return null
        # A single value stands for a list of one.
        coerced: list[Any] = []
        items: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        for item in items:
            if (one := coerce_item(item)) is Undefined:
                return Undefined
            coerced.append(one)
        return coerced

    return coerce


@lru_cache(MOST_TYPES)
def _object_coercer(type_: Any, null: Any) -> Coerce:
    # Types refer to each other, and to themselves: their fields are looked at when the first value comes.
    fields_of = cache(partial(_fields, type_))

    def coerce(value: Any) -> Any:
        if not isinstance(value, dict):
            return null if value is None else Undefined
        fields, missed = fields_of()
        given: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        coerced: dict[str, Any] = {}
        for name, item in given.items():
            out_name, coerce_field = fields.get(name, _UNKNOWN)
            if (one := coerce_field(item)) is Undefined:
                return Undefined
            coerced[out_name] = one
        for name, out_name, default in missed:
            if name not in given:
                if default is Undefined:
                    return Undefined
                coerced[out_name] = default
        if type_.is_one_of and (len(given) != 1 or None in coerced.values()):
            return Undefined
        return type_.out_type(coerced)

    return coerce


_UNKNOWN: tuple[str, Coerce] = "", lambda _value: Undefined
"""What a field is that the type has not got."""


def _fields(type_: Any) -> tuple[dict[str, tuple[str, Coerce]], Sequence[tuple[str, str, Any]]]:
    """A type's fields by their names, as what resolvers call them and their functions; and those that it is not nothing to
    leave out, with what resolvers call them and their default values."""
    fields = {name: (field.out_name or name, coercer(field.type)) for name, field in type_.fields.items()}
    missed = [
        (name, fields[name][0], coerce_default_value(field))
        for name, field in type_.fields.items()
        if _is_missed(field)
    ]
    return fields, missed


def _is_missed(field: GraphQLInputField) -> bool:
    return is_required_input_field(field) or coerce_default_value(field) is not Undefined
