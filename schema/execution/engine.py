"""The schema as it is asked: what an operation is, who may run it, and how large its answer may be.

Strawberry's own pipeline of extensions is not used: nothing here needs it, and it is paid for on every request.
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

from resolvers.storage import Alarms, Crowd, Deadline
from schema.context import Context
from schema.errors import OutOfTime, public_error
from schema.execution.document_cache import Document, Documents, refused
from schema.execution.executor import Executor, known
from schema.execution.gather import gather_fields_when_begun
from schema.execution.input_builders import build_by_written_functions
from schema.execution.operation import Operation
from schema.limits.options import DEFAULT, Rules
from schema.limits.response_size import Weight
from schema.limits.text_checks import look_at_variables


class RunyardSchema(strawberry.Schema):
    """The schema, executed our way."""

    def __init__(
        self,
        query: type,
        mutation: type,
        subscription: type,
        scalars: Mapping[object, ScalarDefinition],
        rules: Rules = DEFAULT,
        *,
        write_plain_data: bool = True,
    ) -> None:
        """`write_plain_data`: whether plain data is completed by functions written for it, or as everything else."""
        config = StrawberryConfig(scalar_map=dict(scalars))
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            query, mutation, subscription, execution_context_class=Executor, config=config
        )
        self._rules = rules
        self._timeouts = Alarms(rules.request_seconds)
        self._crowd = Crowd(rules.answers_bytes)
        self.documents = Documents(self._schema, rules, write_plain_data=write_plain_data)
        gather_fields_when_begun()
        _leave_out_null_defaults(self._schema)
        build_by_written_functions(self)

    def _extend_introspection(self) -> None:
        """Leave `isOneOf` as graphql-core tells it: Strawberry's way fails for lists, and for what is not null."""

    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] = (OperationType.QUERY, OperationType.MUTATION),
        operation_extensions: dict[str, Any] | None = None,
    ) -> Coroutine[Any, Any, ExecutionResult]:
        """Run a query or mutation; errors as the client is to see them. PreExecutionError where nothing was run."""
        document = self.documents.of(query)
        operation = self._checked(document, operation_name, variable_values, context_value)
        if isinstance(operation, PreExecutionError):
            return known(operation)
        if operation.type not in allowed_operation_types:
            return known(refused(f"A {operation.type.value} can not be sent this way."))
        if operation_extensions and operation_extensions.get("cost") is True:
            return self._run_and_tell_cost(document, operation, variable_values, context_value)
        return self._run(operation, variable_values, context_value)

    async def stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Run any operation as a stream: one result for a query or mutation, one for each event of a subscription."""
        return self._run_stream(query, variable_values, context_value, operation_name)

    def _checked(
        self, document: Document, name: str | None, variables: dict[str, Any] | None, context: Context | None
    ) -> Operation | PreExecutionError:
        """As `Documents.operation`, with an eye on who asks, and on the variables."""
        operation = self.documents.operation(document, name)
        if isinstance(operation, PreExecutionError):
            return operation
        assert document.asking is not None
        try:
            if context is not None and context.caller is not None:
                document.asking.check_access(operation.node, context.caller.scopes)
            faults, size = look_at_variables(variables) if variables else ([], 0)
            if not faults:
                document.asking.check(operation.node, variables or {}, size)
        except GraphQLError as error:
            faults = [error]
        return PreExecutionError(data=None, errors=[public_error(fault) for fault in faults]) if faults else operation

    async def _run_and_tell_cost(
        self, document: Document, operation: Operation, variables: dict[str, Any] | None, context: Context | None
    ) -> ExecutionResult:
        result = await self._run(operation, variables, context)
        assert document.asking is not None
        found = document.asking.cost(operation.node, variables or {})
        result.extensions = {"cost": {"found": found, "allowed": self._rules.limits.cost}}
        return result

    async def _run(
        self,
        operation: Operation,
        variables: dict[str, Any] | None,
        context: Context | None,
    ) -> ExecutionResult:
        context = context and context.for_operation()
        gives_way = operation.type is OperationType.QUERY
        weight = Weight(self._rules.limits.answer_bytes, self._crowd, gives_way=gives_way)
        weight.begin()
        deadline = Deadline(self._timeouts)
        if context is not None:
            context.deadline = deadline
        try:
            result = await operation.run(variables or {}, context)
        except asyncio.CancelledError:
            if deadline.has_cancelled():
                return PreExecutionError(data=None, errors=[public_error(GraphQLError("", original_error=OutOfTime()))])
            raise
        finally:
            deadline.end()
        return _weighed(result, weight)

    def _event_weight(self) -> Weight:
        weight = Weight(self._rules.limits.answer_bytes, self._crowd)
        weight.begin_event()
        return weight

    async def _run_stream(
        self,
        query: str | None,
        variables: dict[str, Any] | None,
        context: Context | None,
        operation_name: str | None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        document = self.documents.of(query)
        operation = self._checked(document, operation_name, variables, context)
        if isinstance(operation, PreExecutionError):
            yield operation
            return
        if operation.type is not OperationType.SUBSCRIPTION:
            yield await self._run(operation, variables, context)
            return
        weight = self._event_weight()
        source = operation.subscribe(variables or {}, context and context.for_operation())
        if isawaitable(source):
            source = await source
        if isinstance(source, CoreResult):
            yield _public(source)
            return
        async with aclosing(cast("AsyncGenerator[CoreResult, None]", source)) as events:
            try:
                async for event in events:
                    yield _weighed(event, weight)
                    weight.end()
                    weight = self._event_weight()
            except Exception as error:  # noqa: BLE001 - whatever a stream ends with is told like any other error
                field = operation.node.selection_set.selections[0]
                yield PreExecutionError(data=None, errors=[public_error(located_error(error, [field]))])


def _leave_out_null_defaults(schema: GraphQLSchema) -> None:
    """Let what may be left out say so by its type alone: `= null` on every line tells a reader of the contract nothing."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            optional: list[Any] = list(type_.fields.values())
        elif isinstance(type_, GraphQLObjectType):
            optional = [argument for field in type_.fields.values() for argument in field.args.values()]
        else:
            continue
        for each in optional:
            if each.default_value is None:
                each.default_value = Undefined


def _public(result: Any, kind: type[ExecutionResult] = ExecutionResult) -> ExecutionResult:
    """The result with errors as the client is to see them; a PreExecutionError where nothing was run."""
    if not result.errors:
        return kind(data=result.data, errors=None)
    errors = [public_error(error) for error in result.errors]
    if result.data is None and all(error.path is None for error in errors):
        return PreExecutionError(data=None, errors=errors)
    return kind(data=result.data, errors=errors)


class Weighed(ExecutionResult):
    """A result that holds the room that it takes."""

    weight: Weight


def _weighed(result: Any, weight: Weight) -> ExecutionResult:
    """The result as the client is to see it; an error alone where it is too large."""
    public = _public(result, Weighed)
    if (refusal := weight.refusal()) is not None:
        return ExecutionResult(data=None, errors=[public_error(GraphQLError("", original_error=refusal))])
    if isinstance(public, Weighed):
        public.weight = weight
    return public
