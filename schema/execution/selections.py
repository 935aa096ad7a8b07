"""Selections of operations and their compiled functions, cached with the document.

A field can be compiled when it is an attribute without arguments and all fields selected below it can be compiled too.
One `Selections` belongs to one operation of a document and one set of values for `@skip` and `@include`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from graphql import (
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    FragmentDetails,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues

from schema.execution.codegen import CompleteFunction, FunctionWriter, NotCompilable, OutputType

MAX_COMPILED_FIELDS = 1000
"""Maximum number of fields compiled for one `Selections`: nested fragments can select more than fits in memory."""

Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class FieldSplit:
    """An object's fields: a function that completes the compiled ones, with None for the others, and the others."""

    complete: CompleteFunction
    remaining: GroupedFieldSet


class Selections:
    """Selections of one operation, for all executions with the same values for `@skip` and `@include`."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: dict[str, FragmentDetails],
        operation: OperationDefinitionNode,
        variable_values: VariableValues,
        *,
        hide_suggestions: bool,
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._operation = operation
        self._variable_values = variable_values
        self._hide_suggestions = hide_suggestions
        self._root_fields: GroupedFieldSet | None = None
        self._collected: dict[Any, CollectedFields] = {}
        self._plans: dict[Any, Any] = {}
        self._compiled_field_count = 0

    def collect_root_fields(self, type_: GraphQLObjectType) -> GroupedFieldSet:
        """Return the root fields that the operation selects."""
        if self._root_fields is None:
            self._root_fields = collect_fields(
                self._schema,
                self._fragments,
                self._variable_values,
                type_,
                self._operation,
                self._hide_suggestions,
            ).grouped_field_set
        return self._root_fields

    def collect_subfields(self, type_: GraphQLObjectType, details: FieldDetailsList) -> CollectedFields:
        """Return the fields that are selected of an object: the identical result for the same nodes of the document."""
        key = _selection_key(type_, details)
        if key not in self._collected:
            self._collected[key] = collect_subfields(
                self._schema, self._fragments, self._variable_values, self._operation, type_, details
            )
        return self._collected[key]

    def compilable_fields(self, type_: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        """Collect subfields for compilation. Raises NotCompilable beyond MAX_COMPILED_FIELDS or with `@defer`."""
        collected = self.collect_subfields(type_, details)
        self._compiled_field_count += len(collected.grouped_field_set)
        if collected.new_defer_usages or self._compiled_field_count > MAX_COMPILED_FIELDS:
            raise NotCompilable
        return collected.grouped_field_set

    def compile_completion(self, type_: OutputType, details: FieldDetailsList) -> CompleteFunction | None:
        """Return a function that completes a value of this type; None when its selection cannot be compiled."""

        def compile_plan() -> CompleteFunction:
            writer = FunctionWriter(self.compilable_fields)
            name = writer.add_function("value", f"return {writer.value_expression(type_, details, 'value')}")
            return writer.compile_functions()[name]

        return self.cached_plan(_selection_key(type_, details), compile_plan)

    def split_fields(self, type_: GraphQLObjectType, fields: GroupedFieldSet) -> FieldSplit | None:
        """Split fields that `collect_subfields` returned; None when none of them can be compiled."""

        def compile_plan() -> FieldSplit:
            writer = FunctionWriter(self.compilable_fields)
            name, remaining = writer.add_partial_object_function(type_, fields)
            if len(remaining) == len(fields):
                raise NotCompilable
            return FieldSplit(writer.compile_functions()[name], remaining)

        return self.cached_plan(id(fields), compile_plan)

    def cached_plan(self, key: Any, compile_plan: Callable[[], Plan]) -> Plan | None:
        """Return the result of `compile_plan`, called once for each key; None when it cannot be compiled."""
        if key not in self._plans:
            try:
                self._plans[key] = compile_plan()
            except (NotCompilable, GraphQLError):
                self._plans[key] = None
        return cast("Plan | None", self._plans[key])


def _selection_key(type_: OutputType, details: FieldDetailsList) -> Any:
    # Ids of nodes are unique here: nodes live as long as their document, which owns the cache.
    if len(details) == 1:
        return type_, id(details[0].node)
    return type_, *[id(each.node) for each in details]
