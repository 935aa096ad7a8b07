"""Builds the objects of our input types from what GraphQL has coerced, by functions that are made once for each type.

Strawberry finds out anew for every value what its type is wrapped in and what each field is called in GraphQL; for a nested
filter that costs more than its statement's text. An input type may say how it is built, so each says it here.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import strawberry
from graphql import GraphQLInputObjectType
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import (
    StrawberryList,
    StrawberryObjectDefinition,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.lazy_type import LazyType

Build = Callable[[Any], Any]


def build_inputs_by_written_functions(schema: strawberry.Schema) -> None:
    """Let all input types of the schema be built by functions of their own."""
    raw: Any = schema._schema  # pyright: ignore[reportPrivateUsage]
    builders = _Builders(schema)
    for type_ in raw.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            definition: StrawberryObjectDefinition = type_.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
            definition.from_input = _from_input(builders.of(definition))


def _from_input(build: Build) -> Callable[[type, Mapping[str, Any], Any], Any]:
    return lambda _type, value, _context: build(value)


class _Builders:
    """The functions that have been made so far, by type: types refer to each other, and to themselves."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._name_of = schema.config.name_converter.from_field
        self._made: dict[type, Build] = {}

    def of(self, definition: StrawberryObjectDefinition) -> Build:
        """What builds an object of this type from a mapping by the names of GraphQL."""
        origin = definition.origin
        if origin not in self._made:
            fields: dict[str, tuple[str, Build | None]] = {}

            def build(value: Mapping[str, Any]) -> Any:
                given: dict[str, Any] = {}
                for name, item in value.items():
                    python_name, convert = fields[name]
                    given[python_name] = item if convert is None or item is None else convert(item)
                return origin(**given)

            self._made[origin] = build
            for field in definition.fields:
                fields[self._name_of(field)] = field.python_name, self._converter(field.type)
        return self._made[origin]

    def _converter(self, type_: Any) -> Build | None:
        """What converts a value of this type that is not null; None for what stays as it is."""
        if isinstance(type_, StrawberryOptional):
            return self._converter(type_.of_type)
        if isinstance(type_, LazyType):
            return self._converter(cast("Any", type_).resolve_type())
        if isinstance(type_, StrawberryList):
            convert = self._converter(type_.of_type)
            # A copy in any case: a default value is the same list each time.
            return (
                list if convert is None else lambda items: [None if each is None else convert(each) for each in items]
            )
        if has_object_definition(type_):
            return self.of(type_.__strawberry_definition__)
        return None
