"""Limits the size of filters and lists, in documents and in the JSON of variables.

The limits are checked before coercion, which converts each object of a filter and costs far more than checking it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    get_named_type,
)

from resolvers.errors import BadInput
from schema.limits.options import RequestLimits

MAX_CACHED_TYPES = 1000
"""Maximum number of cached descriptions of input types."""

_TEXT_OPERATORS = (".contains", ".startsWith")
"""Ends of the paths of conditions whose text has a maximum length."""

MAX_UNKNOWN_FIELDS = 10
MAX_NAME_CHARACTERS = 100
"""Maximum length of a field name or enum value. Longer ones are rejected before they are compared with known names."""


@dataclass(frozen=True, slots=True)
class VariableUse:
    """A place in an argument that is set by a variable."""

    path: str
    type: Any
    depth: int
    name: str


@dataclass(frozen=True, slots=True)
class FilterUse:
    """A filter that contains variables."""

    path: str
    conditions: int
    """Number of conditions that are literals of the document."""
    variables: Sequence[VariableUse]

    def check(self, limits: RequestLimits, values: Mapping[str, Any]) -> None:
        """Raise BadInput when the filter exceeds a limit with these values: JSON values, or AST nodes of defaults."""
        checker = FilterSizeChecker(limits, self.path, self.conditions)
        for use in self.variables:
            if use.name in values:
                checker.check_value(use.path, use.type, values[use.name], use.depth)


class FilterSizeChecker:
    """Checks one filter against the limits. Raises BadInput with the path of the first place that exceeds one."""

    def __init__(self, limits: RequestLimits, path: str, conditions: int = 0) -> None:
        self._limits = limits
        self._path = path
        self.conditions = conditions
        self.variables: list[VariableUse] = []

    def check_value(self, path: str, type_: Any, value: object, depth: int = 0) -> None:
        """Check a value of this type."""
        if isinstance(value, VariableNode):
            self.variables.append(VariableUse(path, type_, depth, value.name.value))
            return
        if value is None or isinstance(value, NullValueNode):
            return
        type_info = _inspect_type(type_)
        if type_info.object is None:
            self._check_condition(path, value, type_info.is_list)
        elif type_info.is_list:
            for index, each in enumerate(_list_items(value)):
                self._count_condition()
                self._check_object(f"{path}.{index}", type_info.object, each, depth)
        else:
            self._check_object(path, type_info.object, value, depth)

    def _check_object(self, path: str, type_: GraphQLInputObjectType, value: object, depth: int) -> None:
        if isinstance(value, VariableNode):
            self.variables.append(VariableUse(path, type_, depth, value.name.value))
            return
        for name, item in _object_entries(value):
            field: Any = type_.fields.get(name)
            if field is None:
                continue
            field_path, type_info = f"{path}.{name}", _inspect_type(field.type)
            if not type_info.is_filter:
                self.check_value(field_path, field.type, item, depth)
                continue
            if depth == self._limits.filter_depth:
                raise BadInput(
                    field_path,
                    f"exceeds the maximum filter depth of {self._limits.filter_depth}. Use fewer nested filters.",
                )
            if not type_info.is_list:
                self._count_condition()
            self.check_value(field_path, field.type, item, depth + 1)

    def _check_condition(self, path: str, value: object, is_list: bool) -> None:
        self._count_condition()
        if is_list:
            limit = self._limits.filter_values
            if (found := len(_list_items(value))) > limit:
                raise BadInput(path, f"must have at most {limit:,} values; got {found:,}.")
        elif path.endswith(_TEXT_OPERATORS):
            limit = self._limits.filter_text
            text = value.value if isinstance(value, StringValueNode) else value
            if isinstance(text, str) and len(text) > limit:
                raise BadInput(path, f"must have at most {limit:,} characters; got {len(text):,}.")
            # Each member of a JSON object is compared separately.
            for _ in _object_entries(value)[1:]:
                self._count_condition()

    def _count_condition(self) -> None:
        self.conditions += 1
        if self.conditions > self._limits.filter_conditions:
            limit = self._limits.filter_conditions
            message = f"exceeds the limit of {limit:,} conditions. A list operator such as `in` counts as one."
            raise BadInput(self._path, message)


@dataclass(frozen=True, slots=True)
class _InputTypeInfo:
    """Properties of an input type. They are cached: computing them takes longer than the check."""

    object: GraphQLInputObjectType | None
    """The object type, without list and non-null wrappers; None for scalars and enums."""
    is_list: bool
    is_filter: bool


@lru_cache(MAX_CACHED_TYPES)
def _inspect_type(type_: Any) -> _InputTypeInfo:
    named = named_type(type_)
    object = named if isinstance(named, GraphQLInputObjectType) else None
    return _InputTypeInfo(
        object, isinstance(_nullable(type_), GraphQLList), object is not None and "and" in object.fields
    )


def is_filter(type_: Any) -> bool:
    """Return whether the type is a filter or a list of filters: an object type with a field `and`."""
    return _inspect_type(type_).is_filter


def named_type(type_: Any) -> Any:
    """Return the type without its wrappers. The function of graphql-core has no useful annotations."""
    return get_named_type(type_)  # pyright: ignore[reportUnknownVariableType]


def _nullable(type_: Any) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _list_items(value: object) -> Sequence[object]:
    """Return the items of a list. A single value counts as a list of one item."""
    if isinstance(value, ListValueNode):
        return value.values
    return cast("list[object]", value) if isinstance(value, list) else (value,)


def _object_entries(value: object) -> Sequence[tuple[str, object]]:
    if isinstance(value, ObjectValueNode):
        return [(each.name.value, each.value) for each in value.fields]
    return list(cast("dict[str, object]", value).items()) if isinstance(value, dict) else ()


def default_values(definitions: Iterable[Any]) -> dict[str, ValueNode]:
    """Return the default values of variables by name."""
    return {each.variable.name.value: each.default_value for each in definitions if each.default_value is not None}


def count_list_items(path: str, type_: Any, value: object, max_items: int) -> int:
    """Return the number of list items in a JSON value of this type, without lists in scalars.

    The result is a lower bound when it exceeds `max_items`. Raises BadInput when an object has many unknown fields,
    since graphql-core prints the whole object in the error for each of them, and when an unknown field or an enum value
    has a name so long that comparing it with known names takes time.
    """
    named = named_type(type_)
    if isinstance(value, list):
        items = cast("list[object]", value)
        if not isinstance(_nullable(type_), GraphQLList):
            return 0
        if len(items) > max_items:
            return len(items)
        if not isinstance(named, GraphQLInputObjectType):
            if isinstance(named, GraphQLEnumType):
                for index, each in enumerate(items):
                    _check_enum_name(f"{path}.{index}", named, each)
            return len(items)
        return len(items) + sum(count_list_items(path, named, each, max_items) for each in items)
    if not isinstance(named, GraphQLInputObjectType):
        _check_enum_name(path, named, value)
        return 0
    entries, fields = _object_entries(value), named.fields
    known_entries = [(name, each) for name, each in entries if name in fields]
    if len(known_entries) < len(entries):
        _check_unknown_fields(path, named, [name for name, _ in entries if name not in fields])
    return sum(count_list_items(f"{path}.{name}", fields[name].type, each, max_items) for name, each in known_entries)


def _check_unknown_fields(path: str, type_: GraphQLInputObjectType, names: Sequence[str]) -> None:
    if len(names) > MAX_UNKNOWN_FIELDS:
        raise BadInput(path, f"{len(names):,} fields are not defined by type {type_.name}.")
    if (longest := max(names, key=len))[MAX_NAME_CHARACTERS:]:
        raise BadInput(path, f"field {longest!r:.60} is not defined by type {type_.name}.")


def _check_enum_name(path: str, type_: Any, value: object) -> None:
    if isinstance(type_, GraphQLEnumType) and isinstance(value, str) and len(value) > MAX_NAME_CHARACTERS:
        raise BadInput(path, f"{value!r:.60} is not a value of enum {type_.name}.")
