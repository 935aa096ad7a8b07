"""Executes operations: selects them, checks scopes and variables, and applies the time limit and the response limit.

Strawberry's extension pipeline is not used: nothing here needs it, and every request would pay for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from inspect import isawaitable
from typing import Any, cast

import strawberry
from graphql import ExecutionResult as CoreResult
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    located_error,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.scalar import ScalarDefinition
from strawberry.utils.aio import aclosing

from schema.errors import OperationTimedOut, to_client_error
from schema.execution.document_cache import Document, DocumentCache, pre_execution_error
from schema.execution.executor import Executor, as_awaitable
from schema.execution.gather import install_gather_started
from schema.execution.input_builders import install_input_builders
from schema.execution.operation import Operation
from schema.execution.operation_context import OperationContext
from schema.limits.options import DEFAULT_OPTIONS, EngineOptions
from schema.limits.response_size import ResponseSize, ResponseSizeLimit
from schema.limits.text_checks import check_variables
from schema.limits.time_limit import TimeLimit


class RunyardSchema(strawberry.Schema):
    """The GraphQL schema with its document cache, limits and compiled functions."""

    def __init__(
        self,
        query: type,
        mutation: type,
        subscription: type,
        scalars: Mapping[object, ScalarDefinition],
        options: EngineOptions = DEFAULT_OPTIONS,
        *,
        use_fast_path: bool = True,
    ) -> None:
        """`use_fast_path`: whether compiled functions complete selections where possible, or always graphql-core."""
        config = StrawberryConfig(scalar_map=dict(scalars))
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            query, mutation, subscription, execution_context_class=Executor, config=config
        )
        self._options = options
        self._time_limit = TimeLimit(options.request_seconds)
        self._response_size_limit = ResponseSizeLimit(options.limits.response_bytes, options.total_response_bytes)
        self.documents = DocumentCache(self._schema, options, use_fast_path=use_fast_path)
        install_gather_started()
        _remove_null_defaults(self._schema)
        install_input_builders(self)

    def _extend_introspection(self) -> None:
        """Keep graphql-core's resolver for `isOneOf`: Strawberry's resolver fails for list and non-null types."""

    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: OperationContext | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] = (OperationType.QUERY, OperationType.MUTATION),
        operation_extensions: dict[str, Any] | None = None,
    ) -> Coroutine[Any, Any, ExecutionResult]:
        """Execute a query or mutation. Returns client errors, as a PreExecutionError when nothing was executed."""
        document = self.documents.get(query)
        operation = self._select_operation(document, operation_name, variable_values, context_value)
        if isinstance(operation, PreExecutionError):
            return as_awaitable(operation)
        if operation.type not in allowed_operation_types:
            return as_awaitable(pre_execution_error(f"This transport does not support a {operation.type.value}."))
        if operation_extensions and operation_extensions.get("cost") is True:
            return self._run_with_cost(document, operation, variable_values, context_value)
        return self._run(operation, variable_values, context_value)

    async def stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: OperationContext | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Execute any operation as a stream: one result for a query or mutation, one per event of a subscription.

        A query or mutation is executed when its result is read. The resolver of a subscription that returns its events
        has returned them.
        """
        document = self.documents.get(query)
        operation = self._select_operation(document, operation_name, variable_values, context_value)
        if isinstance(operation, PreExecutionError):
            return _single_result(as_awaitable(operation))
        if operation.type is not OperationType.SUBSCRIPTION:
            return _single_result(self._run(operation, variable_values, context_value))
        source = operation.subscribe(variable_values or {}, context_value and context_value.for_operation())
        if isawaitable(source):
            source = await source
        if isinstance(source, CoreResult):
            errors = [_request_error(operation, error.original_error or error) for error in source.errors or ()]
            return _single_result(as_awaitable(PreExecutionError(data=None, errors=errors)))
        return self._stream_events(operation, cast("AsyncGenerator[CoreResult, None]", source))

    def _select_operation(
        self, document: Document, name: str | None, variables: dict[str, Any] | None, context: OperationContext | None
    ) -> Operation | PreExecutionError:
        """Select as `DocumentCache.select_operation` does, and check the scopes of the caller and the variables."""
        operation = self.documents.select_operation(document, name)
        if isinstance(operation, PreExecutionError):
            return operation
        assert document.analysis is not None
        try:
            if context is not None and context.scopes is not None:
                document.analysis.check_scopes(operation.node, variables or {}, context.scopes)
            errors, size = check_variables(variables) if variables else ([], 0)
            if not errors:
                document.analysis.check_variables(operation.node, variables or {}, size)
        except GraphQLError as error:
            errors = [error]
        return (
            PreExecutionError(data=None, errors=[to_client_error(error) for error in errors]) if errors else operation
        )

    async def _run_with_cost(
        self,
        document: Document,
        operation: Operation,
        variables: dict[str, Any] | None,
        context: OperationContext | None,
    ) -> ExecutionResult:
        result = await self._run(operation, variables, context)
        assert document.analysis is not None
        found = document.analysis.cost(operation.node, variables or {})
        result.extensions = {"cost": {"found": found, "allowed": self._options.limits.cost}}
        return result

    async def _run(
        self,
        operation: Operation,
        variables: dict[str, Any] | None,
        context: OperationContext | None,
    ) -> ExecutionResult:
        context = context and context.for_operation()
        response_size = self._response_size_limit.start(can_be_refused=operation.type is OperationType.QUERY)
        deadline = self._time_limit.start()
        if context is not None:
            context.deadline = deadline
        try:
            result = await operation.run(variables or {}, context)
        except asyncio.CancelledError:
            if deadline.uncancel():
                return PreExecutionError(
                    data=None, errors=[to_client_error(GraphQLError("", original_error=OperationTimedOut()))]
                )
            raise
        finally:
            deadline.end()
        return _sized_result(result, response_size)

    async def _stream_events(
        self, operation: Operation, source: AsyncGenerator[CoreResult, None]
    ) -> AsyncGenerator[ExecutionResult, None]:
        response_size = self._response_size_limit.start_event()
        async with aclosing(source) as events:
            try:
                async for event in events:
                    yield _sized_result(event, response_size)
                    response_size.release()
                    response_size = self._response_size_limit.start_event()
            except Exception as error:  # noqa: BLE001 - an error of the stream is reported like any other
                yield PreExecutionError(data=None, errors=[_request_error(operation, error)])


def _request_error(subscription: Operation, error: Exception) -> GraphQLError:
    """Return the client error for a subscription that could not start or continue. It has no path: there is no data."""
    return to_client_error(located_error(error, [subscription.node.selection_set.selections[0]]))


async def _single_result(result: Coroutine[Any, Any, ExecutionResult]) -> AsyncGenerator[ExecutionResult, None]:
    yield await result


def _remove_null_defaults(schema: GraphQLSchema) -> None:
    """Remove `= null` from optional inputs: it is noise in the printed schema, since a nullable type is optional."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            optional_inputs: list[Any] = list(type_.fields.values())
        elif isinstance(type_, GraphQLObjectType):
            optional_inputs = [argument for field in type_.fields.values() for argument in field.args.values()]
        else:
            continue
        for each in optional_inputs:
            if each.default_value is None:
                each.default_value = Undefined


def _public_result(result: Any, result_type: type[ExecutionResult] = ExecutionResult) -> ExecutionResult:
    """Return the result with client errors; a PreExecutionError when nothing was executed."""
    if not result.errors:
        return result_type(data=result.data, errors=None)
    errors = [to_client_error(error) for error in result.errors]
    if result.data is None and all(error.path is None for error in errors):
        return PreExecutionError(data=None, errors=errors)
    return result_type(data=result.data, errors=errors)


class SizedResult(ExecutionResult):
    """A result that keeps its reservation in the memory budget."""

    response_size: ResponseSize


def _sized_result(result: Any, response_size: ResponseSize) -> ExecutionResult:
    """Return the result for the client; only an error when the response exceeds its limit."""
    public = _public_result(result, SizedResult)
    if (limit_error := response_size.limit_error()) is not None:
        return ExecutionResult(data=None, errors=[to_client_error(GraphQLError("", original_error=limit_error))])
    if isinstance(public, SizedResult):
        public.response_size = response_size
    return public
