"""Estimates the cost of an operation, and finds where variables affect its cost and filters.

Fields are collected as in execution: fragments and repeated fields are merged. Page sizes come from the arguments. The
unit is the cost of one field that is read from an attribute.
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
    ObjectValueNode,
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
from schema.limits.document_size import (
    MAX_ALIAS_CHARACTERS,
    MAX_COUNT,
    QueryTooComplex,
    SelectionCounter,
    limit_exceeded,
)
from schema.limits.filter_size import (
    FilterSizeChecker,
    FilterUse,
    count_list_items,
    default_values,
    is_filter,
    named_type,
)
from schema.limits.options import MAX_BATCH_SIZE, RequestLimits
from schema.permissions import ScopeRequirement, Scopes, check_scopes, required_scopes
from schema.state_change_scopes import check_state_changes, select_state_changes

RESOLVED_FIELD_COST = 20
"""Cost of a field with a resolver."""

CONNECTION_COST = 60
"""Cost of a paginated list, without its items."""

MAX_VARIABLE_ITEMS = 25_000
"""Maximum number of list items in all variables of an operation, without lists in JSON values. Coercing takes time."""

DEFAULT_LIST_SIZE = 10
"""Assumed number of items in a list without pagination."""

BULK_CHANGE_ARGUMENTS = {"limit", "after", "dryRun"}
"""Arguments of the mutations that change the runs that match a filter. Each returns up to `limit` rejections."""

INTROSPECTION_LIST_SIZES = {"types": 80, "fields": 8, "enumValues": 2, "inputFields": 3, "args": 1, "directives": 6}
"""Assumed number of items in lists of introspection; 1 for lists that are not named here."""

LIST_SIZES = {"workers": 1000}
"""Maximum number of items in lists without pagination that can be long, by the name of the root field."""

CLAIM_ARGUMENT = "claim"
"""Argument of `exchangeTaskRuns` that requests task runs, besides its lists."""

_COUNT_LIMITS = ("depth", "aliases", "directives", "fields")
Values = Mapping[str, Any]
TypedSelectionSet = tuple[Any, SelectionSetNode]
"""A type and a selection set on it."""


@dataclass(frozen=True, slots=True)
class OperationAnalysis:
    """Cost, filters and scopes of one operation, as far as they do not depend on variables."""

    max_cost: int
    """Upper bound of the cost for any variables."""
    filters: Sequence[FilterUse]
    """Filters that contain variables."""
    list_arguments: Sequence[tuple[str, str]]
    """List arguments that are set by a variable: name of the argument, name of the variable."""
    defaults: Values
    required_scopes: Sequence[ScopeRequirement]
    """Scopes that its root fields require, including fields that `@skip` or `@include` exclude."""
    state_changes: Sequence[FieldNode]
    """Root fields whose arguments may require a further scope."""


@dataclass(frozen=True, slots=True)
class DocumentAnalysis:
    """The analyses of a document's operations, for one schema and its limits."""

    schema: GraphQLSchema
    limits: RequestLimits
    fragments: dict[str, FragmentDefinitionNode]
    operations: dict[str | None, OperationAnalysis]

    @classmethod
    def from_document(cls, schema: GraphQLSchema, tree: DocumentNode, limits: RequestLimits) -> "DocumentAnalysis":
        """Analyze a document. Raises GraphQLError when it exceeds a limit regardless of its variables."""
        fragments = {node.name.value: node for node in tree.definitions if isinstance(node, FragmentDefinitionNode)}
        counter = SelectionCounter(fragments)
        counts = counter.count_document(tree)
        if counter.is_too_nested:
            raise limit_exceeded("depth", limits.depth, None)
        if (longest := counter.longest_alias) > MAX_ALIAS_CHARACTERS:
            raise limit_exceeded("alias_characters", MAX_ALIAS_CHARACTERS, longest)
        for name in _COUNT_LIMITS:
            allowed: int = getattr(limits, name)
            if (found := getattr(counts, name)) > allowed:
                raise limit_exceeded(name, allowed, found)
        if counter.has_cycle:
            # Collecting the fields of a cycle has no time bound.
            raise validate(schema, tree, [NoFragmentCyclesRule])[0]
        analysis = cls(schema, limits, fragments, {})
        for node in tree.definitions:
            if isinstance(node, OperationDefinitionNode):
                analysis.operations[node.name.value if node.name else None] = analysis._analyze_operation(node)
        for name in counter.unused_fragments:
            _CostCalculator(analysis, None).check_fragment(fragments[name])
        return analysis

    def check_scopes(self, operation: OperationDefinitionNode, values: Values, scopes: Scopes) -> None:
        """Raise GraphQLError when these scopes do not permit the operation with these variables, given as JSON values."""
        analysis = self._analysis_of(operation)
        check_scopes(analysis.required_scopes, scopes)
        if analysis.state_changes:
            check_state_changes(analysis.state_changes, {**analysis.defaults, **values}, scopes)

    def is_read_only(self, operation: OperationDefinitionNode) -> bool:
        """Return whether the operation changes nothing: the scope `read` permits all its root fields."""
        return all(Scope.READ in scopes for _, scopes in self._analysis_of(operation).required_scopes)

    def check_variables(self, operation: OperationDefinitionNode, values: Values, size: int) -> None:
        """Raise GraphQLError when the operation exceeds a limit with these variables, given as JSON values.

        `size` is the size of their JSON in bytes.
        """
        analysis = self._analysis_of(operation)
        try:
            for path, name in analysis.list_arguments:
                items = values.get(name)
                if isinstance(items, list) and len(cast("list[Any]", items)) > MAX_BATCH_SIZE:
                    found = len(cast("list[Any]", items))
                    raise BadInput(path, f"must have at most {MAX_BATCH_SIZE:,} items; got {found:,}.")
            if analysis.filters:
                given = {**analysis.defaults, **values}
                for use in analysis.filters:
                    use.check(self.limits, given)
            # Each item takes at least two bytes of JSON.
            if size > 2 * MAX_VARIABLE_ITEMS:
                self._count_items(operation, values)
        except BadInput as error:
            raise GraphQLError(str(error), original_error=error) from None
        if analysis.max_cost > self.limits.cost:
            _check_cost(self.limits, self.cost(operation, values), operation)

    def _analysis_of(self, operation: OperationDefinitionNode) -> OperationAnalysis:
        return self.operations[operation.name.value if operation.name else None]

    def _count_items(self, operation: OperationDefinitionNode, values: Values) -> None:
        counted = 0
        for definition in operation.variable_definitions or ():
            name = definition.variable.name.value
            found = count_list_items(
                name, type_from_ast(self.schema, definition.type), values.get(name), MAX_VARIABLE_ITEMS
            )
            if counted + found > MAX_VARIABLE_ITEMS:
                others = f" ({counted + found:,} with the other variables)" if counted else ""
                message = f"must have at most {MAX_VARIABLE_ITEMS:,} list items; got {found:,}{others}."
                raise BadInput(name, message)
            counted += found

    def cost(self, operation: OperationDefinitionNode, values: Values) -> int:
        """Return the cost of the operation with these variables."""
        calculator = _CostCalculator(self, {**default_values(operation.variable_definitions or ()), **values})
        return calculator.operation_cost(operation)

    def _analyze_operation(self, operation: OperationDefinitionNode) -> OperationAnalysis:
        calculator = _CostCalculator(self, None)
        try:
            max_cost = calculator.operation_cost(operation)
        except BadInput as error:
            raise GraphQLError(str(error), original_error=error) from None
        if not calculator.has_variable_sizes:
            _check_cost(self.limits, max_cost, operation)
        defaults = default_values(operation.variable_definitions or ())
        return OperationAnalysis(
            max_cost,
            calculator.filters,
            calculator.list_arguments,
            defaults,
            required_scopes(calculator.root_fields),
            select_state_changes(calculator.root_fields),
        )


def _check_cost(limits: RequestLimits, found: int, operation: OperationDefinitionNode) -> None:
    if found > limits.cost:
        message = (
            f"The operation costs up to {found:,}; the limit is {limits.cost:,}. Request smaller pages or fewer fields. "
            f"A plain field costs 1, a paginated list {CONNECTION_COST}, any other field {RESOLVED_FIELD_COST}, each "
            "multiplied by the sizes of the pages that contain it."
        )
        raise QueryTooComplex("cost", limits.cost, found, message, [operation])


class _CostCalculator:
    """Computes the cost of one operation. `values` are its variables; None when they are unknown."""

    def __init__(self, analysis: DocumentAnalysis, values: Values | None) -> None:
        self._schema = analysis.schema
        self._limits = analysis.limits
        self._fragments = analysis.fragments
        self._values = values
        self.filters: list[FilterUse] = []
        self.list_arguments: list[tuple[str, str]] = []
        self.root_fields: list[FieldNode] = []
        self.has_variable_sizes = False
        """Whether variables set the size of a page or list."""

    def operation_cost(self, node: OperationDefinitionNode) -> int:
        """Return the cost of the operation; its upper bound when the variables are unknown."""
        type_ = self._schema.get_root_type(node.operation)
        fields = self._collect_fields([(type_, node.selection_set)])
        self.root_fields = [selected for each in fields.values() for _, selected in each]
        if len(fields) > self._limits.root_fields:
            raise limit_exceeded("root_fields", self._limits.root_fields, len(fields), node)
        return self._fields_cost(fields, None)

    def check_fragment(self, node: FragmentDefinitionNode) -> None:
        """Check a fragment that no operation spreads: validation visits it too."""
        self._fields_cost(
            self._collect_fields([(self._type_named(node.type_condition.name.value), node.selection_set)]), None
        )

    def _collect_fields(self, selection_sets: Sequence[TypedSelectionSet]) -> dict[str, list[tuple[Any, FieldNode]]]:
        """Collect the fields of one object by their response keys."""
        fields_by_key: dict[str, list[tuple[Any, FieldNode]]] = {}
        spread: set[str] = set()
        pending = list(reversed(selection_sets))
        while pending:
            type_, selection_set = pending.pop()
            for node in selection_set.selections:
                if isinstance(node, FieldNode):
                    fields_by_key.setdefault((node.alias or node.name).value, []).append((type_, node))
                elif isinstance(node, InlineFragmentNode):
                    condition = node.type_condition
                    pending.append((self._type_named(condition.name.value) if condition else type_, node.selection_set))
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                    spread.add(node.name.value)
                    if (fragment := self._fragments.get(node.name.value)) is not None:
                        pending.append((self._type_named(fragment.type_condition.name.value), fragment.selection_set))
        return fields_by_key

    def _type_named(self, name: str) -> Any:
        return self._schema.get_type(name)

    def _fields_cost(self, fields: dict[str, list[tuple[Any, FieldNode]]], inherited_size: int | None) -> int:
        """`inherited_size` is the number of items of lists among the fields, when the parent field determines it."""
        total = 0
        for selected in fields.values():
            if len(selected) > self._limits.repeats:
                raise limit_exceeded("repeats", self._limits.repeats, len(selected), selected[0][1])
            total += self._field_cost(selected, inherited_size)
        return min(total, MAX_COUNT)

    def _field_cost(self, selected: list[tuple[Any, FieldNode]], inherited_size: int | None) -> int:
        name = selected[0][1].name.value
        fields = [self._schema.get_field(type_, name) for type_, _ in selected if isinstance(type_, GraphQLObjectType)]
        field: Any = next((each for each in fields if each is not None), None)
        type_: Any = None if field is None else named_type(field.type)
        subfields = self._collect_fields([(type_, node.selection_set) for _, node in selected if node.selection_set])
        size = None
        if field is not None:
            size = max((self._list_size(field, node) for _, node in selected), key=lambda each: each or 0)
            if type_ and selected[0][0] is self._schema.query_type:
                size = LIST_SIZES.get(name, size)
        own_cost = (
            1
            if field is None or not _is_resolved(field)
            else CONNECTION_COST
            if "first" in field.args
            else RESOLVED_FIELD_COST
        )
        if field is None or not _is_list(field.type) or not subfields:
            return own_cost + self._fields_cost(subfields, size)
        item_count = inherited_size if size is None else size
        if item_count is None:
            item_count = (
                INTROSPECTION_LIST_SIZES.get(name, 1) if type_ and type_.name.startswith("__") else DEFAULT_LIST_SIZE
            )
        return own_cost + item_count * (1 + self._fields_cost(subfields, None))

    def _list_size(self, field: Any, node: FieldNode) -> int | None:
        """Return the number of items that the arguments request; None when they do not specify it."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        size: int | None = self._limits.default_page_size if "first" in field.args else None
        if is_bulk_change := field.args.keys() >= BULK_CHANGE_ARGUMENTS:
            size = MAX_BATCH_SIZE
        for name, argument in field.args.items():
            value = given.get(name)
            if value is None:
                continue
            if is_filter(argument.type):
                self._check_filter(name, argument.type, value)
            elif name in ("first", "last"):
                size = self._item_count(value, size, self._limits.page_size)
            elif name == "limit" and is_bulk_change:
                size = self._item_count(value, size, MAX_BATCH_SIZE)
            elif _is_list(argument.type):
                size = max(size or 0, self._list_length(name, argument.type, value))
            elif name == "limit":
                size = max(size or 0, self._item_count(value, None, MAX_BATCH_SIZE) or 0)
            elif name == CLAIM_ARGUMENT:
                size = max(size or 0, self._claim_limit(value))
        return size

    def _claim_limit(self, value: object) -> int:
        """Return the number of runs that the argument `claim` requests: the maximum when variables determine it."""
        if isinstance(value, VariableNode):
            self.has_variable_sizes = True
            value = {"limit": MAX_BATCH_SIZE} if self._values is None else self._values.get(value.name.value)
        if isinstance(value, ObjectValueNode):
            value = {each.name.value: each.value for each in value.fields or ()}
        if not isinstance(value, dict):
            return 0
        return self._item_count(cast("Values", value).get("limit"), 1, MAX_BATCH_SIZE) or 0

    def _item_count(self, value: object, default: int | None, max_size: int) -> int | None:
        if isinstance(value, VariableNode):
            self.has_variable_sizes = True
            value = max_size if self._values is None else self._values.get(value.name.value)
        if isinstance(value, IntValueNode):
            value = int(value.value) if len(value.value) < 10 else max_size
        return min(max(value, 0), max_size) if isinstance(value, int) else default

    def _list_length(self, name: str, type_: Any, value: object) -> int:
        if isinstance(value, VariableNode):
            self.has_variable_sizes = True
            self.list_arguments.append((name, value.name.value))
            value = None if self._values is None else self._values.get(value.name.value, ())
        if value is None:
            return MAX_BATCH_SIZE
        if isinstance(value, ListValueNode):
            return len(value.values)
        return min(len(cast("list[Any]", value)), MAX_BATCH_SIZE) if isinstance(value, list) else 1

    def _check_filter(self, name: str, type_: Any, value: object) -> None:
        checker = FilterSizeChecker(self._limits, name)
        checker.check_value(name, type_, value)
        if checker.variables:
            self.filters.append(FilterUse(name, checker.conditions, checker.variables))


def _is_list(type_: Any) -> bool:
    return isinstance(type_.of_type if isinstance(type_, GraphQLNonNull) else type_, GraphQLList)  # pyright: ignore[reportUnknownMemberType]


def _is_resolved(field: Any) -> bool:
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return isinstance(definition, StrawberryField) and not definition.is_basic_field
