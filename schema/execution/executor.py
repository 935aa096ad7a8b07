"""How an operation is run: by graphql-core, but for plain data, and for what stands around every operation."""

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

from schema.execution.codegen import OutputType, Prepared
from schema.execution.selections import Selections
from schema.limits.response_size import LONG, weighed

Value = TypeVar("Value")
SelectionsOf = Callable[[VariableValues], Selections | None]
"""What an operation selects with these variables; None where that is not known."""

UNRESOLVED: Any = object()
"""Stands for what no resolver has given."""


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Strawberry's executor, with written functions for plain data, and its cheaper test for awaitables in subscriptions
    too. Queries and mutations are run without `@defer`, `@stream` and signals to abort, which this schema does not have."""

    def __init__(self, *args: Any, selections_of: SelectionsOf | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_awaitable = optimized_is_awaitable  # pyright: ignore[reportAttributeAccessIssue]
        # Methods of its own would keep it, and the variables with it, until the garbage collector comes by.
        this = proxy(self)
        self.async_helpers = GraphQLResolveInfoHelpers(
            partial(type(self).gather_async_work, this), partial(type(self).track_async_work, this)
        )
        self._selections = selections_of and selections_of(self.variable_values)
        if self.context_value is not None:
            self.context_value.selections = self._selections

    async def run(self, resolved: Any = UNRESOLVED) -> ExecutionResult:
        """What comes of a query or mutation; `resolved` is what the resolver of its one field has given or raised."""
        try:
            data = await self._root_fields(resolved)
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            data = None
        return ExecutionResult(data, self.collected_errors.errors or None)

    async def _root_fields(self, resolved: Any) -> dict[str, Any]:
        operation = self.operation
        root = self.schema.get_root_type(operation.operation)
        assert root is not None
        if self._selections is not None:
            fields = self._selections.collect_root(root)
        else:
            fields, *_ = collect_fields(
                self.schema, self.fragments, self.variable_values, root, operation, self.hide_suggestions
            )
        if len(fields) != 1:
            is_mutation = operation.operation is OperationType.MUTATION
            execute = self.execute_fields_serially if is_mutation else self.execute_fields
            data: Any = execute(root, None, None, fields, None)
            return await data if optimized_is_awaitable(data) else data
        # Nearly all have one. What there is for several would take longer than to read some runs.
        ((name, details),) = fields.items()
        path = Path(None, name, root.name)
        if resolved is UNRESOLVED:
            field: Any = self.execute_field(root, None, details, path, None)
        else:
            type_, nodes = root.fields[details[0].node.name.value], [each.node for each in details]
            info = cast("Any", self).build_resolve_info(type_, nodes, root, path)
            field = self.complete_awaitable_value(  # pyright: ignore[reportUnknownMemberType]
                type_.type, details, info, path, known(resolved), None
            )
        return {name: await field if optimized_is_awaitable(field) else field}

    def with_abort_signal(self, awaitable: Awaitable[Any]) -> Any:
        """The same: there is no such signal."""
        return awaitable

    @staticmethod
    def complete_leaf_value(return_type: Any, result: Any) -> Any:
        long = type(result) is str and len(result) >= LONG
        return StrawberryGraphQLCoreExecutionContext.complete_leaf_value(
            return_type, weighed(result) if long else result
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
        if type(result) is Prepared:
            return result.value
        if (
            self._selections is not None
            and result is not None
            and field_details_list[0].node.selection_set is not None
            and (complete := self._selections.completion(return_type, field_details_list)) is not None
        ):
            try:
                return complete(result)
            except Exception:  # noqa: BLE001, S110 - the ordinary path raises it again, and says where
                pass
        return super().complete_value(  # pyright: ignore[reportUnknownMemberType]
            return_type, field_details_list, info, path, result, position_context
        )

    def collect_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList
    ) -> CollectedFields:
        if self._selections is None:
            return super().collect_subfields(return_type, field_details_list)
        return self._selections.collect(return_type, field_details_list)

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: GroupedFieldSet,
        position_context: Any,
    ) -> Any:
        # The fields of the root have no path, and are no plain data.
        if (
            self._selections is None
            or path is None
            or (split := self._selections.split(parent_type, grouped_field_set)) is None
        ):
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        try:
            fields = split.complete(source_value)
        except Exception:  # noqa: BLE001 - the ordinary path raises it again, and says where
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        rest = super().execute_fields(parent_type, source_value, path, split.rest, position_context)
        if isinstance(rest, dict):
            fields.update(rest)
            return fields
        return _updated(fields, rest)


async def known(value: Value) -> Value:
    """The value, to be awaited."""
    return value


async def _updated(fields: dict[str, Any], rest: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    fields.update(await rest)
    return fields
