"""How large a filter, or a list, may be: found out in the document, and in variables while they are plain JSON.

Reading a filter turns each of its objects into one of ours, which costs far more than looking at it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from schema.limits.options import Limits

MOST_KINDS = 1000
"""Types of fields that are kept."""

MOST_UNKNOWN = 10
LONGEST_NAME = 100
"""Of a field, or of a value of an enum. What is longer is compared with none that there is."""


@dataclass(frozen=True, slots=True)
class VariableUse:
    """A place in an argument that a variable fills."""

    path: str
    type: Any
    depth: int
    name: str


@dataclass(frozen=True, slots=True)
class FilterUse:
    """A filter of which a part comes from variables."""

    path: str
    conditions: int
    """How many conditions the document itself has written into it."""
    variables: Sequence[VariableUse]

    def check(self, limits: Limits, values: Mapping[str, Any]) -> None:
        """BadInput where the filter is too large with these values, which are JSON, or nodes where they are defaults."""
        reader = FilterReader(limits, self.path, self.conditions)
        for use in self.variables:
            if use.name in values:
                reader.read(use.path, use.type, values[use.name], use.depth)


class FilterReader:
    """Goes through one filter and counts. BadInput, which names the place, as soon as something is too large."""

    def __init__(self, limits: Limits, path: str, conditions: int = 0) -> None:
        self._limits = limits
        self._path = path
        self.conditions = conditions
        self.variables: list[VariableUse] = []

    def read(self, path: str, type_: Any, value: object, depth: int = 0) -> None:
        """Go through a value of this type."""
        if isinstance(value, VariableNode):
            self.variables.append(VariableUse(path, type_, depth, value.name.value))
            return
        if value is None or isinstance(value, NullValueNode):
            return
        kind = _kind_of(type_)
        if kind.object is None:
            self._condition(path, value, kind.is_list)
        elif kind.is_list:
            for place, each in enumerate(_items(value)):
                self._count()
                self._object(f"{path}.{place}", kind.object, each, depth)
        else:
            self._object(path, kind.object, value, depth)

    def _object(self, path: str, type_: GraphQLInputObjectType, value: object, depth: int) -> None:
        if isinstance(value, VariableNode):
            self.variables.append(VariableUse(path, type_, depth, value.name.value))
            return
        for name, item in _entries(value):
            field: Any = type_.fields.get(name)
            if field is None:
                continue
            below, kind = f"{path}.{name}", _kind_of(field.type)
            if not kind.is_filter:
                self.read(below, field.type, item, depth)
                continue
            if depth == self._limits.filter_depth:
                raise BadInput(below, f"is too deep: filters may nest {self._limits.filter_depth} deep.")
            if not kind.is_list:
                self._count()
            self.read(below, field.type, item, depth + 1)

    def _condition(self, path: str, value: object, is_list: bool) -> None:
        self._count()
        if is_list:
            most = self._limits.filter_values
            if (found := len(_items(value))) > most:
                raise BadInput(path, f"takes at most {most:,} values, not {found:,}.")
        elif path.endswith(".like"):
            most = self._limits.filter_text
            text = value.value if isinstance(value, StringValueNode) else value
            if isinstance(text, str) and len(text) > most:
                raise BadInput(path, f"takes at most {most:,} characters, not {len(text):,}.")

    def _count(self) -> None:
        self.conditions += 1
        if self.conditions > self._limits.filter_conditions:
            raise BadInput(self._path, f"has more than {self._limits.filter_conditions} conditions.")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What there is to know of the type of a field, which takes longer to find out than the rest takes."""

    object: GraphQLInputObjectType | None
    """The type of the object, or of the objects in the list."""
    is_list: bool
    is_filter: bool


@lru_cache(MOST_KINDS)
def _kind_of(type_: Any) -> _Kind:
    named = named_type(type_)
    object = named if isinstance(named, GraphQLInputObjectType) else None
    return _Kind(object, isinstance(_nullable(type_), GraphQLList), object is not None and "and" in object.fields)


def is_filter(type_: Any) -> bool:
    """Whether it is a filter, or a list of filters: what can be joined by `and`."""
    return _kind_of(type_).is_filter


def named_type(type_: Any) -> Any:
    """The type without what it is wrapped in; graphql-core's own function has a type that says nothing."""
    return get_named_type(type_)  # pyright: ignore[reportUnknownVariableType]


def _nullable(type_: Any) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _items(value: object) -> Sequence[object]:
    """A list's items; what stands in the place of a list is one."""
    if isinstance(value, ListValueNode):
        return value.values
    return cast("list[object]", value) if isinstance(value, list) else (value,)


def _entries(value: object) -> Collection[tuple[str, object]]:
    if isinstance(value, ObjectValueNode):
        return [(each.name.value, each.value) for each in value.fields]
    return cast("dict[str, object]", value).items() if isinstance(value, dict) else ()


def default_values(definitions: Iterable[Any]) -> dict[str, ValueNode]:
    """The defaults of variables, by name."""
    return {each.variable.name.value: each.default_value for each in definitions if each.default_value is not None}


def items_in(path: str, type_: Any, value: object, enough: int) -> int:
    """How many items the lists in a JSON value of this type have, those in scalars aside; beyond enough, at least so many.

    BadInput where an object has many names that its type does not know, since wording the error of one shows the whole
    object, and where a name is so long that it alone takes a while to be compared with others.
    """
    named = named_type(type_)
    if isinstance(value, list):
        items = cast("list[object]", value)
        if not isinstance(_nullable(type_), GraphQLList):
            return 0
        if len(items) > enough:
            return len(items)
        if not isinstance(named, GraphQLInputObjectType):
            if isinstance(named, GraphQLEnumType):
                for place, each in enumerate(items):
                    _look_at_name(f"{path}.{place}", named, each)
            return len(items)
        return len(items) + sum(items_in(path, named, each, enough) for each in items)
    if not isinstance(named, GraphQLInputObjectType):
        _look_at_name(path, named, value)
        return 0
    entries, fields = _entries(value), named.fields
    known = [(name, each) for name, each in entries if name in fields]
    if len(known) < len(entries):
        _look_at_unknown(path, named, [name for name, _ in entries if name not in fields])
    return sum(items_in(f"{path}.{name}", fields[name].type, each, enough) for name, each in known)


def _look_at_unknown(path: str, type_: GraphQLInputObjectType, names: Sequence[str]) -> None:
    if len(names) > MOST_UNKNOWN:
        raise BadInput(path, f"has {len(names):,} fields that {type_.name} does not have.")
    if (longest := max(names, key=len))[LONGEST_NAME:]:
        raise BadInput(path, f"has a field {longest!r:.60} that {type_.name} does not have.")


def _look_at_name(path: str, type_: Any, value: object) -> None:
    if isinstance(type_, GraphQLEnumType) and isinstance(value, str) and len(value) > LONGEST_NAME:
        raise BadInput(path, f"{value!r:.60} is no {type_.name}.")
