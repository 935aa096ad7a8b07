"""What of a document is plain data, found out once and kept with the document.

A field is plain where it is an attribute without arguments, and all that is selected of it is plain again. `Selections`
belong to one operation of a document under one set of values for `@skip` and `@include`.
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

from schema.execution.codegen import Complete, NotPlain, OutputType, Writer

MOST_FIELDS = 1000
"""Fields looked at for one set of values: fragments within fragments can select more than there is memory for."""

Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Split:
    """An object's fields: the plain ones as a function that leaves None for the others, and the others."""

    complete: Complete
    rest: GroupedFieldSet


class Selections:
    """What one operation selects, for all its executions with the same values for @skip and @include."""

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
        self._root: GroupedFieldSet | None = None
        self._collected: dict[Any, CollectedFields] = {}
        self._plans: dict[Any, Any] = {}
        self._looked_at = 0

    def collect_root(self, type_: GraphQLObjectType) -> GroupedFieldSet:
        """The fields that are selected of the operation's root."""
        if self._root is None:
            self._root = collect_fields(
                self._schema,
                self._fragments,
                self._variable_values,
                type_,
                self._operation,
                self._hide_suggestions,
            ).grouped_field_set
        return self._root

    def collect(self, type_: GraphQLObjectType, details: FieldDetailsList) -> CollectedFields:
        """The fields that are selected of an object; the same object for the same nodes of the document."""
        key = _key(type_, details)
        if key not in self._collected:
            self._collected[key] = collect_subfields(
                self._schema, self._fragments, self._variable_values, self._operation, type_, details
            )
        return self._collected[key]

    def fields(self, type_: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        """As `collect`, for what is to be written down; NotPlain where that would be too much."""
        collected = self.collect(type_, details)
        self._looked_at += len(collected.grouped_field_set)
        if collected.new_defer_usages or self._looked_at > MOST_FIELDS:
            raise NotPlain
        return collected.grouped_field_set

    def completion(self, type_: OutputType, details: FieldDetailsList) -> Complete | None:
        """A function that completes a value of this type, where all that is selected of it is plain."""

        def write() -> Complete:
            writer = Writer(self.fields)
            name = writer.function("value", f"return {writer.value(type_, details, 'value')}")
            return writer.compiled()[name]

        return self.plan(_key(type_, details), write)

    def split(self, type_: GraphQLObjectType, fields: GroupedFieldSet) -> Split | None:
        """The fields that `collect` has found, divided; None where none is plain."""

        def write() -> Split:
            writer = Writer(self.fields)
            name, rest = writer.part_of_record(type_, fields)
            if len(rest) == len(fields):
                raise NotPlain
            return Split(writer.compiled()[name], rest)

        return self.plan(id(fields), write)

    def plan(self, key: Any, write: Callable[[], Plan]) -> Plan | None:
        """What `write` gives, which is called once; None where it finds something that is not plain."""
        if key not in self._plans:
            try:
                self._plans[key] = write()
            except (NotPlain, GraphQLError):
                self._plans[key] = None
        return cast("Plan | None", self._plans[key])


def _key(type_: OutputType, details: FieldDetailsList) -> Any:
    # Nodes live as long as their document, and so do these keys.
    if len(details) == 1:
        return type_, id(details[0].node)
    return type_, *[id(each.node) for each in details]
