"""Executes operations with graphql-core, and completes selections with compiled functions where possible."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast
from weakref import proxy

from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    OperationType,
)
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList, GroupedFieldSet, collect_fields
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from graphql.type import GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.execution.codegen import CompletedValue, OutputType
from schema.execution.selections import Selections
from schema.limits.response_size import COUNTED_TEXT_LENGTH, count_characters

Value = TypeVar("Value")
FindSelections = Callable[[VariableValues], Selections | None]
"""Returns the selections of an operation with these variables; None when they are not cached."""

UNRESOLVED: Any = object()
"""Marks a field whose resolver has not been called."""


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Strawberry's executor with compiled functions.

    Strawberry's cheaper check for awaitables is used in subscriptions too.

    Queries and mutations are executed without `@defer`, `@stream` and abort signals, which the schema does not support.
    """

    def __init__(self, *args: Any, find_selections: FindSelections | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_awaitable = optimized_is_awaitable  # pyright: ignore[reportAttributeAccessIssue]
        # Bound methods would form a reference cycle and keep the variables until the next garbage collection.
        this = proxy(self)
        self.async_helpers = GraphQLResolveInfoHelpers(
            partial(type(self).gather_async_work, this), partial(type(self).track_async_work, this)
        )
        self._selections = find_selections and find_selections(self.variable_values)
        if self.context_value is not None:
            self.context_value.selections = self._selections

    async def run(self, resolved: Any = UNRESOLVED) -> ExecutionResult:
        """Execute a query or mutation. `resolved` is what the resolver of its only root field returned or raised."""
        try:
            data = await self._execute_root_fields(resolved)
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            data = None
        return ExecutionResult(data, self.collected_errors.errors or None)

    async def _execute_root_fields(self, resolved: Any) -> dict[str, Any]:
        operation = self.operation
        root = self.schema.get_root_type(operation.operation)
        assert root is not None
        if self._selections is not None:
            fields = self._selections.collect_root_fields(root)
        else:
            fields, *_ = collect_fields(
                self.schema, self.fragments, self.variable_values, root, operation, self.hide_suggestions
            )
        if len(fields) != 1:
            is_mutation = operation.operation is OperationType.MUTATION
            execute = self.execute_fields_serially if is_mutation else self.execute_fields
            data: Any = execute(root, None, None, fields, None)
            return await data if optimized_is_awaitable(data) else data
        # Nearly all operations have one root field; the code for several takes longer than reading some runs.
        ((name, details),) = fields.items()
        path = Path(None, name, root.name)
        if resolved is UNRESOLVED:
            field: Any = self.execute_field(root, None, details, path, None)
        else:
            type_, nodes = root.fields[details[0].node.name.value], [each.node for each in details]
            info = cast("Any", self).build_resolve_info(type_, nodes, root, path)
            field = self.complete_awaitable_value(  # pyright: ignore[reportUnknownMemberType]
                type_.type, details, info, path, as_awaitable(resolved), None
            )
        return {name: await field if optimized_is_awaitable(field) else field}

    def with_abort_signal(self, awaitable: Awaitable[Any]) -> Any:
        """Return the awaitable unchanged: abort signals are not supported."""
        return awaitable

    @staticmethod
    def complete_leaf_value(return_type: Any, result: Any) -> Any:
        is_counted = type(result) is str and len(result) >= COUNTED_TEXT_LENGTH
        return StrawberryGraphQLCoreExecutionContext.complete_leaf_value(
            return_type, count_characters(result) if is_counted else result
        )

    def complete_value(
        self,
        return_type: OutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        if type(result) is CompletedValue:
            return result.value
        if (
            self._selections is not None
            and result is not None
            and field_details_list[0].node.selection_set is not None
            and (complete := self._selections.compile_completion(return_type, field_details_list)) is not None
        ):
            try:
                return complete(result)
            except Exception:  # noqa: BLE001, S110 - graphql-core raises it again, with its location
                pass
        return super().complete_value(  # pyright: ignore[reportUnknownMemberType]
            return_type, field_details_list, info, path, result, position_context
        )

    def collect_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList
    ) -> CollectedFields:
        if self._selections is None:
            return super().collect_subfields(return_type, field_details_list)
        return self._selections.collect_subfields(return_type, field_details_list)

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: GroupedFieldSet,
        position_context: Any,
    ) -> Any:
        # Root fields have no path and cannot be compiled.
        if (
            self._selections is None
            or path is None
            or (split := self._selections.split_fields(parent_type, grouped_field_set)) is None
        ):
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        try:
            fields = split.complete(source_value)
        except Exception:  # noqa: BLE001 - graphql-core raises it again, with its location
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        remaining = super().execute_fields(parent_type, source_value, path, split.remaining, position_context)
        if isinstance(remaining, dict):
            fields.update(remaining)
            return fields
        return _merge_awaited_fields(fields, remaining)


async def as_awaitable(value: Value) -> Value:
    """Return the value from a coroutine."""
    return value


async def _merge_awaited_fields(fields: dict[str, Any], remaining: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    fields.update(await remaining)
    return fields
