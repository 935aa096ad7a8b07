"""What one operation asks for: how much its answer may cost, and where in it variables decide.

The operation is laid out as it will be executed, fragments and repeated fields merged, with the page sizes that it names.
A unit of cost is what one field of plain data costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NoFragmentCyclesRule,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    type_from_ast,  # pyright: ignore[reportUnknownVariableType]
    validate,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from db.enums import Scope
from resolvers.errors import BadInput
from schema.inputs.arguments import LARGEST_BATCH
from schema.limits.document_size import ENDLESS, LONGEST_ALIAS, Counter, TooComplex, too_many
from schema.limits.filter_size import FilterReader, FilterUse, default_values, is_filter, items_in, named_type
from schema.limits.options import Limits
from schema.permissions import Need, check_access, needs_of

RESOLVED = 20
"""What a field costs that is more than an attribute."""

PAGED = 60
"""What a list that comes in pages costs, without its items."""

MOST_ITEMS = 25_000
"""Items that the lists in all variables may have together, those in JSON values aside: reading each takes a while."""

UNPAGED = 10
"""How many items a list is taken to have that has no pages."""

INTROSPECTED = {"types": 80, "fields": 8, "enumValues": 2, "inputFields": 3, "args": 1, "directives": 6}
"""How many items the lists of introspection are taken to have; the others have one."""

_COUNTED = ("depth", "aliases", "directives", "fields")
Values = Mapping[str, Any]
Place = tuple[Any, SelectionSetNode]
"""A type, and what is selected of it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one operation asks for."""

    most: int
    """What it may cost at most, whatever its variables are."""
    filters: Sequence[FilterUse]
    """The filters that variables have a part in."""
    lists: Sequence[tuple[str, str]]
    """Arguments that are lists, and the variables that they come from."""
    defaults: Values
    needs: Sequence[Need]
    """What its root fields need of a token, also those that a directive leaves out."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What the operations of a document ask for, of one schema and under its limits."""

    schema: GraphQLSchema
    limits: Limits
    fragments: dict[str, FragmentDefinitionNode]
    operations: dict[str | None, Asked]

    @classmethod
    def of(cls, schema: GraphQLSchema, tree: DocumentNode, limits: Limits) -> "Asking":
        """What the document asks for. Raises a GraphQLError where that is more than one may, whatever the variables are."""
        fragments = {node.name.value: node for node in tree.definitions if isinstance(node, FragmentDefinitionNode)}
        counter = Counter(fragments)
        counts = counter.document(tree)
        if counter.is_too_nested:
            raise too_many("depth", limits.depth, None)
        if (longest := counter.longest_alias) > LONGEST_ALIAS:
            raise too_many("alias_characters", LONGEST_ALIAS, longest)
        for name in _COUNTED:
            allowed: int = getattr(limits, name)
            if (found := getattr(counts, name)) > allowed:
                raise too_many(name, allowed, found)
        if counter.has_cycle:
            # Looking for anything else in it would take as long as one likes.
            raise validate(schema, tree, [NoFragmentCyclesRule])[0]
        asking = cls(schema, limits, fragments, {})
        for node in tree.definitions:
            if isinstance(node, OperationDefinitionNode):
                asking.operations[node.name.value if node.name else None] = asking._asked(node)
        for name in counter.unspread:
            _Layout(asking, None).fragment(fragments[name])
        return asking

    def check_access(self, operation: OperationDefinitionNode, scopes: frozenset[Scope]) -> None:
        """GraphQLError where these scopes are not enough for the operation."""
        check_access(self._asked_by(operation).needs, scopes)

    def check(self, operation: OperationDefinitionNode, values: Values, size: int) -> None:
        """GraphQLError where the operation asks for more than one may with these variables, which are plain JSON.

        `size` is how many bytes of it they are.
        """
        asked = self._asked_by(operation)
        try:
            for path, name in asked.lists:
                items = values.get(name)
                if isinstance(items, list) and len(cast("list[Any]", items)) > LARGEST_BATCH:
                    found = len(cast("list[Any]", items))
                    raise BadInput(path, f"takes at most {LARGEST_BATCH:,} items at once, not {found:,}.")
            if asked.filters:
                given = {**asked.defaults, **values}
                for use in asked.filters:
                    use.check(self.limits, given)
            # An item takes two bytes at least.
            if size > 2 * MOST_ITEMS:
                self._count_items(operation, values)
        except BadInput as refusal:
            raise GraphQLError(str(refusal), original_error=refusal) from None
        if asked.most > self.limits.cost:
            _refuse_cost(self.limits, self.cost(operation, values), operation)

    def _asked_by(self, operation: OperationDefinitionNode) -> Asked:
        return self.operations[operation.name.value if operation.name else None]

    def _count_items(self, operation: OperationDefinitionNode, values: Values) -> None:
        before = 0
        for definition in operation.variable_definitions or ():
            name = definition.variable.name.value
            found = items_in(name, type_from_ast(self.schema, definition.type), values.get(name), MOST_ITEMS)
            if before + found > MOST_ITEMS:
                others = f", with those of other variables {before + found:,}" if before else ""
                raise BadInput(name, f"has {found:,} items in its lists{others}; {MOST_ITEMS:,} are allowed.")
            before += found

    def cost(self, operation: OperationDefinitionNode, values: Values) -> int:
        """What the operation costs with these variables."""
        layout = _Layout(self, {**default_values(operation.variable_definitions or ()), **values})
        return layout.operation(operation)

    def _asked(self, operation: OperationDefinitionNode) -> Asked:
        layout = _Layout(self, None)
        try:
            most = layout.operation(operation)
        except BadInput as refusal:
            raise GraphQLError(str(refusal), original_error=refusal) from None
        if not layout.has_sizes:
            _refuse_cost(self.limits, most, operation)
        defaults = default_values(operation.variable_definitions or ())
        return Asked(most, layout.filters, layout.lists, defaults, needs_of(layout.root_fields))


def _refuse_cost(limits: Limits, found: int, operation: OperationDefinitionNode) -> None:
    if found > limits.cost:
        message = (
            f"The operation may cost {found:,} (a plain field is 1, a list with pages {PAGED}, any other field {RESOLVED}, "
            f"each times the size of the pages it is in); {limits.cost:,} is allowed. "
            "Ask for smaller pages, or for less of each."
        )
        raise TooComplex("cost", limits.cost, found, message, [operation])


class _Layout:
    """An operation, laid out. `values` are its variables; None where these are not known."""

    def __init__(self, asking: Asking, values: Values | None) -> None:
        self._schema = asking.schema
        self._limits = asking.limits
        self._fragments = asking.fragments
        self._values = values
        self.filters: list[FilterUse] = []
        self.lists: list[tuple[str, str]] = []
        self.root_fields: list[FieldNode] = []
        self.has_sizes = False
        """Whether variables decide how large a page is."""

    def operation(self, node: OperationDefinitionNode) -> int:
        """What it costs; at most, where variables are not known."""
        type_ = self._schema.get_root_type(node.operation)
        fields = self._collect([(type_, node.selection_set)])
        self.root_fields = [selected for each in fields.values() for _, selected in each]
        if len(fields) > self._limits.root_fields:
            raise too_many("root_fields", self._limits.root_fields, len(fields), node)
        return self._cost(fields, None)

    def fragment(self, node: FragmentDefinitionNode) -> None:
        """Look at a fragment that no operation spreads: validation will, too."""
        self._cost(self._collect([(self._type(node.type_condition.name.value), node.selection_set)]), None)

    def _collect(self, places: Sequence[Place]) -> dict[str, list[tuple[Any, FieldNode]]]:
        """The fields that become one object, by the names they have in the answer."""
        found: dict[str, list[tuple[Any, FieldNode]]] = {}
        spread: set[str] = set()
        waiting = list(reversed(places))
        while waiting:
            type_, selection_set = waiting.pop()
            for node in selection_set.selections:
                if isinstance(node, FieldNode):
                    found.setdefault((node.alias or node.name).value, []).append((type_, node))
                elif isinstance(node, InlineFragmentNode):
                    condition = node.type_condition
                    waiting.append((self._type(condition.name.value) if condition else type_, node.selection_set))
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                    spread.add(node.name.value)
                    if (fragment := self._fragments.get(node.name.value)) is not None:
                        waiting.append((self._type(fragment.type_condition.name.value), fragment.selection_set))
        return found

    def _type(self, name: str) -> Any:
        return self._schema.get_type(name)

    def _cost(self, fields: dict[str, list[tuple[Any, FieldNode]]], inherited: int | None) -> int:
        """`inherited` is how many items the lists among these have, where the field above says it."""
        total = 0
        for selected in fields.values():
            if len(selected) > self._limits.repeats:
                raise too_many("repeats", self._limits.repeats, len(selected), selected[0][1])
            total += self._field(selected, inherited)
        return min(total, ENDLESS)

    def _field(self, selected: list[tuple[Any, FieldNode]], inherited: int | None) -> int:
        name = selected[0][1].name.value
        fields = [self._schema.get_field(type_, name) for type_, _ in selected if isinstance(type_, GraphQLObjectType)]
        field: Any = next((each for each in fields if each is not None), None)
        type_: Any = None if field is None else named_type(field.type)
        below = self._collect([(type_, node.selection_set) for _, node in selected if node.selection_set])
        size = None
        if field is not None:
            size = max((self._size(field, node) for _, node in selected), key=lambda each: each or 0)
        own = 1 if field is None or not _is_resolved(field) else PAGED if "first" in field.args else RESOLVED
        if field is None or not _is_list(field.type) or not below:
            return own + self._cost(below, size)
        times = inherited if size is None else size
        if times is None:
            times = INTROSPECTED.get(name, 1) if type_ and type_.name.startswith("__") else UNPAGED
        return own + times * (1 + self._cost(below, None))

    def _size(self, field: Any, node: FieldNode) -> int | None:
        """How many items the arguments ask for; None where they do not say."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        size: int | None = self._limits.default_page if "first" in field.args else None
        for name, argument in field.args.items():
            value = given.get(name)
            if value is None:
                continue
            if is_filter(argument.type):
                self._read_filter(name, argument.type, value)
            elif name in ("first", "last"):
                size = self._page(value, size)
            elif _is_list(argument.type):
                size = self._length(name, argument.type, value)
        return size

    def _page(self, value: object, default: int | None) -> int | None:
        largest = self._limits.page_size
        if isinstance(value, VariableNode):
            self.has_sizes = True
            value = largest if self._values is None else self._values.get(value.name.value)
        if isinstance(value, IntValueNode):
            value = int(value.value) if len(value.value) < 10 else largest
        return min(max(value, 0), largest) if isinstance(value, int) else default

    def _length(self, name: str, type_: Any, value: object) -> int:
        if isinstance(value, VariableNode):
            self.has_sizes = True
            self.lists.append((name, value.name.value))
            value = None if self._values is None else self._values.get(value.name.value, ())
        if value is None:
            return LARGEST_BATCH
        if isinstance(value, ListValueNode):
            return len(value.values)
        return min(len(cast("list[Any]", value)), LARGEST_BATCH) if isinstance(value, list) else 1

    def _read_filter(self, name: str, type_: Any, value: object) -> None:
        reader = FilterReader(self._limits, name)
        reader.read(name, type_, value)
        if reader.variables:
            self.filters.append(FilterUse(name, reader.conditions, reader.variables))


def _is_list(type_: Any) -> bool:
    return isinstance(type_.of_type if isinstance(type_, GraphQLNonNull) else type_, GraphQLList)  # pyright: ignore[reportUnknownMemberType]


def _is_resolved(field: Any) -> bool:
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return isinstance(definition, StrawberryField) and not definition.is_basic_field
