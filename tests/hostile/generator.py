"""Generate operations of any shape by a random walk through the types of the schema.

Every fourth operation contains faults. Unused parts of the schema are preferred: a few hundred operations cover all of it.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import orjson
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    SchemaMetaFieldDef,
    TypeMetaFieldDef,
    get_named_type,
    is_required_argument,
)

from schema.root import build_schema
from tests.hostile.documents import Operation
from tests.hostile.values import Coverage, Values

MAX_DEPTH = 5
MAX_FIELDS = 60
FAULTY_SHARE = 0.25
"""The share of operations that contain faults."""

PAGES = ("first", "last", "limit")
FAULTS = [
    "nothing",
    "...Nowhere",
    "... on Nothing { id }",
    "... on TaskRunFilter { id }",
    "... on FlowRun { id }",
    "__typename @nothing",
    "__typename @include",
    "__typename @skip(if: 5)",
    "__typename @deprecated(reason: null)",
    "__typename { id }",
    "a0: __typename a0: id",
    "id(nothing: 1)",
    "state",
    "__typename @skip(if: $missing)",
    "...Around",
]
"""Selections that are invalid in most places."""

CYCLIC_FRAGMENT = " fragment Around on Query { ...Around }"

_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")


class Generator:
    """Generates operations and records their schema coverage."""

    def __init__(self, known: Sequence[str], seed: int) -> None:
        schema = build_schema()._schema
        assert schema.query_type
        assert schema.mutation_type
        self._random = Random(seed)  # noqa: S311 - for no secrets
        self.coverage = Coverage()
        self.values = Values(known, self._random, self.coverage)
        self._possible_types = schema.get_possible_types
        # Queries and mutations are equally likely, and their fields rotate.
        self._roots = [(kind, deque(kind.fields)) for kind in (schema.query_type, schema.mutation_type)]
        for _, names in self._roots:
            self._random.shuffle(names)

    def operation(self) -> Operation:
        """Generate the next operation."""
        kind, names = self._random.choice(self._roots)
        fields: list[tuple[str, GraphQLField]] = []
        for _ in range(self._random.choice([1, 1, 2, 3])):
            fields.append((names[0], kind.fields[names[0]]))
            names.rotate(-1)
        if kind.name == "Query" and self._random.random() < 0.03:
            fields.append(self._random.choice([("__schema", SchemaMetaFieldDef), ("__type", TypeMetaFieldDef)]))
        faulty = self._random.random() < FAULTY_SHARE
        self.values.wrong_type_share = 0.06 if faulty else 0.0
        return _Writer(self._random, self.values, self.coverage, self._possible_types, faulty).operation(kind, fields)

    def unused(self) -> list[str]:
        """Return the schema coordinates that no operation has used so far."""
        return sorted(set(self._coordinates()) - self.coverage.reached)

    def unused_roots(self) -> list[str]:
        """Return the root fields that no operation has used so far."""
        return [each for each in self.unused() if re.fullmatch(r"(Query|Mutation)\.\w+", each)]

    def summary(self) -> str:
        """Return a summary of the coverage."""
        coordinates, unused = len(set(self._coordinates())), self.unused()
        examples = f"; unused: {', '.join(unused[:10])}" if unused else ""
        return f"{coordinates - len(unused)} of {coordinates} fields, arguments, input fields and enum values{examples}"

    def _coordinates(self) -> Iterator[str]:
        """Yield all coordinates that queries and mutations can use."""
        pending: list[Any] = [kind for kind, _ in self._roots]
        seen = {type_.name for type_ in pending}
        while pending:
            type_ = pending.pop()
            if isinstance(type_, GraphQLEnumType):
                yield from (f"{type_.name}.{name}" for name in type_.values)
                continue
            below: list[Any] = []
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}"
                arguments = field.args if isinstance(field, GraphQLField) else {}
                yield from (f"{type_.name}.{name}({argument}:)" for argument in arguments)
                if _has_fields(field) or not isinstance(field, GraphQLField):
                    below.append(field.type)  # output enums have no coordinates that an operation can use
                below += [argument.type for argument in arguments.values()]
            for each in map(get_named_type, below):
                if each.name not in seen and not isinstance(each, GraphQLScalarType):
                    seen.add(each.name)
                    pending.append(each)


class _Writer:
    """Writes one operation."""

    def __init__(
        self,
        random: Random,
        values: Values,
        coverage: Coverage,
        possible: Callable[[Any], Sequence[Any]],
        faulty: bool,
    ) -> None:
        self._random = random
        self._values = values
        self._coverage = coverage
        self._possible_types = possible
        self._faulty = faulty
        self._remaining_fields = MAX_FIELDS
        self._aliases = 0
        self._definitions: list[str] = []
        self._variables: dict[str, Any] = {}
        self._fragments: list[tuple[str, str]] = []
        """The type name and text of each fragment."""

    def operation(self, kind: GraphQLObjectType, fields: list[tuple[str, GraphQLField]]) -> Operation:
        selected = " ".join(self._field(kind, name, field, 0) for name, field in fields)
        if self._chance(0.05):
            selected += f" {self._fragment(kind, 0)}"
        if self._faulty_chance(0.1):
            selected += f" {self._random.choice(FAULTS)}"
        if self._faulty_chance(0.1):
            self._definitions.append(self._random.choice(["$unused: Int", "$odd: Nothing", "$out: TaskRun", "$v0: ID"]))
        if self._faulty_chance(0.1):
            self._variables[self._random.choice(["v0", "v1", "unknown", ""])] = self._values.json()
        head = kind.name.lower()
        if self._chance(0.5):
            head += " Name"
        if self._definitions:
            head += f"({', '.join(self._definitions)})"
        fragments = [text for _, text in self._fragments]
        return " ".join([head, "{", selected, "}", *fragments]) + CYCLIC_FRAGMENT * (
            "...Around" in selected
        ), self._variables

    def _field(self, owner: Any, name: str, field: GraphQLField, depth: int) -> str:
        self._remaining_fields -= 1
        self._coverage.add(f"{owner.name}.{name}")
        arguments = self._arguments(f"{owner.name}.{name}", field, depth)
        # A unique alias avoids conflicts between the fields of fragments.
        has_alias = bool(field.args) or self._chance(0.05)
        self._aliases += has_alias
        text = f"a{self._aliases}: {name}" if has_alias else name
        if arguments:
            text += f"({', '.join(arguments)})"
        text += self._directive()
        named = get_named_type(field.type)
        if isinstance(named, GraphQLObjectType | GraphQLInterfaceType):
            text += f" {{ {self._selection(named, depth + 1)} }}"
        return text

    def _arguments(self, coordinate: str, field: GraphQLField, depth: int) -> list[str]:
        needed = [name for name, each in field.args.items() if is_required_argument(each)]
        others = [name for name in field.args if name not in needed]
        chosen = self._coverage.pick(self._random, f"{coordinate}(", others, 3)
        # Nested pages without a small page size exceed the cost limit.
        if depth and "first" in field.args and not {"first", "last"} & {*chosen}:
            chosen.append("first")
        if self._faulty_chance(0.1) and needed:
            needed.pop()
        texts = []
        for name in [*needed, *chosen]:
            self._coverage.add(f"{coordinate}({name}:)")
            texts.append(f"{name}: {self._argument(field.args[name], name, depth)}")
        return [*texts, "nothing: 1"] if self._faulty_chance(0.03) else texts

    def _argument(self, argument: Any, name: str, depth: int) -> str:
        value = self._values.of(argument.type, name)
        if name in PAGES and depth and isinstance(value, int):
            value = min(value, 3)
        return self._literal(argument.type, value, 0.35)

    def _selection(self, type_: Any, depth: int) -> str:
        """Return a selection of fields; only leaf fields beyond the maximum depth."""
        is_leaf = {name: not _has_fields(field) for name, field in type_.fields.items()}
        names = [name for name in type_.fields if is_leaf[name] or (depth < MAX_DEPTH and self._remaining_fields > 0)]
        chosen = self._coverage.pick(self._random, f"{type_.name}.", names, 4)
        parts = [self._field(type_, name, type_.fields[name], depth) for name in chosen]
        if not parts or self._chance(0.1):
            parts.append("__typename" + self._directive())
        if isinstance(type_, GraphQLInterfaceType):
            parts += [self._inline(each, depth) for each in self._random.sample(list(self._possible_types(type_)), 2)]
        elif self._chance(0.1) and self._remaining_fields > 0:
            parts.append(self._inline(type_, depth))
        if self._chance(0.1) and self._remaining_fields > 0:
            parts.append(self._fragment(type_, depth))
        if self._faulty_chance(0.05):
            parts.insert(self._random.randint(0, len(parts)), self._random.choice(FAULTS[:-1]))
        return " ".join(parts)

    def _inline(self, type_: Any, depth: int) -> str:
        condition = f" on {type_.name}" if self._chance(0.8) or not isinstance(type_, GraphQLObjectType) else ""
        if not condition:
            return f"...{self._directive()} {{ __typename }}"
        return f"...{condition}{self._directive()} {{ {self._selection(type_, depth + 1)} }}"

    def _fragment(self, type_: Any, depth: int) -> str:
        """Return a spread of a new or an existing fragment."""
        known = [index for index, (name, _) in enumerate(self._fragments) if name == type_.name]
        if known and self._chance(0.5):
            return f"...F{self._random.choice(known)}{self._directive()}"
        if type_.name in ("Query", "Mutation"):
            text = "__typename"
        else:
            self._remaining_fields -= 1
            text = self._selection(type_, depth + 1)
        index = len(self._fragments)
        self._fragments.append((type_.name, f"fragment F{index} on {type_.name} {{ {text} }}"))
        return f"...F{index}{self._directive()}"

    def _directive(self) -> str:
        if not self._chance(0.06):
            return ""
        name, value = self._random.choice(["skip", "include"]), self._chance(0.5)
        shown = self._variable("Boolean!", value) if self._chance(0.5) else orjson.dumps(value).decode()
        return f" @{name}(if: {shown})"

    def _variable(self, type_: str, value: Any, default: str | None = None) -> str:
        name = f"v{len(self._definitions)}"
        self._definitions.append(f"${name}: {type_}" + (f" = {default}" if default is not None else ""))
        # Sometimes omit an optional variable.
        if type_.endswith("!") or value is not None or self._chance(0.5):
            self._variables[name] = value
        if default is not None and self._chance(0.5):
            del self._variables[name]
        return f"${name}"

    def _literal(self, type_: Any, value: Any, as_variable: float) -> str:
        """Return the value as a literal; sometimes a variable replaces it or a part of it."""
        if self._chance(as_variable):
            can_have_default = not isinstance(type_, GraphQLNonNull) and value is not None
            default = self._literal(type_, value, 0) if can_have_default and self._chance(0.2) else None
            stricter = can_have_default and default is None and self._chance(0.2)
            return self._variable(f"{type_}!" if stricter else f"{type_}", value, default)
        inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        part = as_variable and 0.05
        if isinstance(inner, GraphQLList) and isinstance(value, list):
            return "[" + " ".join(self._literal(inner.of_type, each, part) for each in value) + "]"
        if (
            isinstance(inner, GraphQLInputObjectType)
            and isinstance(value, dict)
            and value.keys() <= inner.fields.keys()
        ):
            entries = (f"{name}: {self._literal(inner.fields[name].type, each, part)}" for name, each in value.items())
            return "{" + " ".join(entries) + "}"
        if isinstance(inner, GraphQLEnumType) and isinstance(value, str) and _NAME.fullmatch(value):
            return value
        return json_literal(value)

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance

    def _faulty_chance(self, chance: float) -> bool:
        return self._faulty and self._chance(chance)


def json_literal(value: Any) -> str:
    """Return a JSON value as a GraphQL literal."""
    if isinstance(value, dict):
        # JSON keys may not be valid GraphQL names.
        return "{" + " ".join(f"k{index}: {json_literal(each)}" for index, each in enumerate(value.values())) + "}"
    if isinstance(value, list):
        return "[" + " ".join(json_literal(each) for each in value) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return orjson.dumps(value).decode()


def _has_fields(field: GraphQLField) -> bool:
    return isinstance(get_named_type(field.type), GraphQLObjectType | GraphQLInterfaceType)
