"""Coerces variables to the types of inputs: as graphql-core does, which looks at each field that a type has.

A filter has dozens, of which a request gives two or three. What graphql-core would do with the others is nothing, unless one
is required or has a default value; these are found once for each type.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from graphql import (
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    Undefined,
    is_required_input_field,
)
from graphql.execution import values
from graphql.utilities.coerce_input_value import (
    coerce_default_value,
    coerce_input_value,  # pyright: ignore[reportUnknownVariableType]
)

Coerce = Callable[[Any], Any]

MOST_TYPES = 500
"""Types whose functions are kept; a schema has some twenty."""


def coerce_by_written_functions() -> None:
    """Let graphql-core coerce variables so."""
    values.coerce_input_value = coerce  # pyright: ignore[reportPrivateImportUsage]


def coerce(value: Any, type_: Any) -> Any:
    """The value as resolvers get it; Undefined where it is none of the type, and graphql-core is to say why."""
    if isinstance(type_, GraphQLNonNull):
        return Undefined if value is None or value is Undefined else coerce(value, cast("Any", type_).of_type)
    if value is None:
        return None
    if isinstance(type_, GraphQLInputObjectType):
        return _object(type_)(value) if isinstance(value, dict) else Undefined
    if isinstance(type_, GraphQLList) and isinstance(value, list):
        return _list(cast("list[Any]", value), cast("Any", type_).of_type)
    return coerce_input_value(value, type_)


def _list(items: list[Any], type_: Any) -> Any:
    coerced: list[Any] = []
    for item in items:
        if (one := coerce(item, type_)) is Undefined:
            return Undefined
        coerced.append(one)
    return coerced


@lru_cache(MOST_TYPES)
def _object(type_: Any) -> Coerce:
    """What coerces a mapping to a type of objects."""
    fields = {name: (field.out_name or name, field.type) for name, field in type_.fields.items()}
    missed = {name: coerce_default_value(field) for name, field in type_.fields.items() if _is_missed(field)}

    def coerce_object(value: dict[str, Any]) -> Any:
        coerced: dict[str, Any] = {}
        for name, item in value.items():
            if name not in fields:
                return Undefined
            out_name, field_type = fields[name]
            if (one := coerce(item, field_type)) is Undefined:
                return Undefined
            coerced[out_name] = one
        for name, default in missed.items():
            if name not in value:
                if default is Undefined:
                    return Undefined
                coerced[fields[name][0]] = default
        if type_.is_one_of and (len(value) != 1 or None in coerced.values()):
            return Undefined
        return type_.out_type(coerced)

    return coerce_object


def _is_missed(field: GraphQLInputField) -> bool:
    """Whether it is not nothing to leave the field out."""
    return is_required_input_field(field) or coerce_default_value(field) is not Undefined
