"""Builds input objects and calls resolvers, with functions that are built once for each type and field.

Strawberry looks up the wrappers of a type and the GraphQL names of its fields for every value, and the parameters of a
resolver for every call. For a nested filter this costs more than generating the SQL text. Strawberry uses the
`from_input` of a type's definition when it has one; this module sets it for each input type.
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

Builder = Callable[[Any], Any]


def install_input_builders(schema: strawberry.Schema) -> None:
    """Install a builder for each input type, and a caller for each resolver except those of subscriptions."""
    core_schema: Any = schema._schema  # pyright: ignore[reportPrivateUsage]
    builders = _InputBuilders(schema)
    for type_ in core_schema.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            definition: StrawberryObjectDefinition = type_.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
            definition.from_input = _wrap_builder(builders.builder_for(definition))
        elif isinstance(type_, GraphQLObjectType) and type_ is not core_schema.subscription_type:
            for field in type_.fields.values():
                declared: Any = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
                if declared is not None and declared.base_resolver is not None:
                    field.resolve = builders.build_resolver(declared)


def _wrap_builder(build: Builder) -> Callable[[type, Mapping[str, Any], Any], Any]:
    return lambda _type, value, _context: build(value)


class _InputBuilders:
    """The builders created so far, by type. Types refer to each other and to themselves."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config = schema.config
        self._graphql_name = schema.config.name_converter.from_field
        self._builders: dict[type, Builder] = {}

    def builder_for(self, definition: StrawberryObjectDefinition) -> Builder:
        """Return a function that builds an object of this type from a mapping by GraphQL names."""
        origin = definition.origin
        if origin not in self._builders:
            fields: dict[str, tuple[str, Builder | None]] = {}

            def build(value: Mapping[str, Any]) -> Any:
                keyword_arguments: dict[str, Any] = {}
                for name, item in value.items():
                    python_name, convert = fields[name]
                    keyword_arguments[python_name] = item if convert is None or item is None else convert(item)
                return origin(**keyword_arguments)

            self._builders[origin] = build
            for field in definition.fields:
                fields[self._graphql_name(field)] = field.python_name, self._find_converter(field.type)
        return self._builders[origin]

    def build_resolver(self, field: Any) -> Callable[..., Any]:
        """Return a function that calls the field's resolver with arguments by GraphQL names."""
        assert field.base_resolver.self_parameter, "A resolver must be a method."
        assert not field.extensions, "Field extensions are not supported."
        function, info = field.base_resolver.wrapped_func, field.base_resolver.info_parameter
        info_name = info and info.name
        graphql_name, info_class = self._config.name_converter.from_argument, self._config.info_class
        parameters = {
            graphql_name(each): (each.python_name, self._find_converter(each.type)) for each in field.arguments
        }

        def call(source: Any, raw_info: Any, /, **values: Any) -> Any:
            keyword_arguments: dict[str, Any] = {}
            for name, value in values.items():
                python_name, convert = parameters[name]
                keyword_arguments[python_name] = value if convert is None or value is None else convert(value)
            if info_name is not None:
                keyword_arguments[info_name] = info_class(_raw_info=raw_info, _field=field)
            return function(source, **keyword_arguments)

        return call

    def _find_converter(self, type_: Any) -> Builder | None:
        """Return the converter for non-null values of this type; None when values need no conversion."""
        assert not isinstance(type_, StrawberryMaybe), "StrawberryMaybe is not supported."
        if isinstance(type_, StrawberryOptional):
            return self._find_converter(type_.of_type)
        if isinstance(type_, LazyType):
            return self._find_converter(cast("Any", type_).resolve_type())
        if isinstance(type_, StrawberryList):
            convert = self._find_converter(type_.of_type)
            # Always copies: a default value is the same list for each call.
            return (
                list if convert is None else lambda items: [None if each is None else convert(each) for each in items]
            )
        if has_object_definition(type_):
            return self.builder_for(type_.__strawberry_definition__)
        return None
