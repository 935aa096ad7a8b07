"""Builds the objects of our input types from what GraphQL has coerced, and calls resolvers with them, by functions that are
made once for each type and field.

Strawberry finds out anew for every value what its type is wrapped in and what each field is called in GraphQL, and for every
call what the resolver wants; for a nested filter that costs more than its statement's text. An input type may say how it is
built, so each says it here.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import strawberry
from graphql import GraphQLInputObjectType, GraphQLObjectType
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryObjectDefinition,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.lazy_type import LazyType

Build = Callable[[Any], Any]


def build_by_written_functions(schema: strawberry.Schema) -> None:
    """Let all input types of the schema be built, and all resolvers but those of subscriptions be called, by functions of
    their own."""
    raw: Any = schema._schema  # pyright: ignore[reportPrivateUsage]
    builders = _Builders(schema)
    for type_ in raw.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            definition: StrawberryObjectDefinition = type_.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
            definition.from_input = _from_input(builders.of(definition))
        elif isinstance(type_, GraphQLObjectType) and type_ is not raw.subscription_type:
            for field in type_.fields.values():
                declared: Any = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
                if declared is not None and declared.base_resolver is not None:
                    field.resolve = builders.caller(declared)


def _from_input(build: Build) -> Callable[[type, Mapping[str, Any], Any], Any]:
    return lambda _type, value, _context: build(value)


class _Builders:
    """The functions that have been made so far, by type: types refer to each other, and to themselves."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config = schema.config
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

    def caller(self, field: Any) -> Callable[..., Any]:
        """What calls the field's resolver with the arguments by the names of GraphQL."""
        assert field.base_resolver.self_parameter, "Resolvers are methods."
        assert not field.extensions, "Nothing else is called here."
        function, info = field.base_resolver.wrapped_func, field.base_resolver.info_parameter
        name_of_info = info and info.name
        name_of, info_of = self._config.name_converter.from_argument, self._config.info_class
        arguments = {name_of(each): (each.python_name, self._converter(each.type)) for each in field.arguments}

        def call(source: Any, raw_info: Any, /, **given: Any) -> Any:
            wanted: dict[str, Any] = {}
            for name, value in given.items():
                python_name, convert = arguments[name]
                wanted[python_name] = value if convert is None or value is None else convert(value)
            if name_of_info is not None:
                wanted[name_of_info] = info_of(_raw_info=raw_info, _field=field)
            return function(source, **wanted)

        return call

    def _converter(self, type_: Any) -> Build | None:
        """What converts a value of this type that is not null; None for what stays as it is."""
        assert not isinstance(type_, StrawberryMaybe), "What was left out is told from null in other ways."
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
