"""How an operation is prepared and run.

A document is parsed and validated once and kept, because both cost several times what a small operation does. Strawberry's
own pipeline of extensions is not used: nothing here needs it, and it is paid for on every request.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, cast
from weakref import proxy

import strawberry
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    located_error,
    parse,
)
from graphql import ExecutionResult as CoreResult
from graphql import (
    OperationType as OperationKind,
)
from graphql.execution import execute, subscribe  # pyright: ignore[reportUnknownVariableType]
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList, GroupedFieldSet
from graphql.pyutils import Path
from graphql.type import GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.scalar import ScalarDefinition
from strawberry.utils.aio import aclosing

from resolvers.storage import Crowd
from schema.asking import Asking
from schema.building import build_by_written_functions
from schema.completion import OutputType, Prepared
from schema.context import Context
from schema.deadline import Deadline
from schema.errors import OutOfTime, public_error
from schema.gathering import gather_fields_when_begun
from schema.limits import MOST_LINES, too_many
from schema.plain import Plans
from schema.rules import DEFAULT, Limits, Rules
from schema.texts import faults_in_document, look_at_variables
from schema.validation import faults_of
from schema.weighing import LONG, Weight, weighed

MOST_DOCUMENTS = 500
MOST_CHARACTERS = 200_000
"""What the documents that are kept may have together. A character can take two hundred bytes once it is parsed, in objects
that the garbage collector looks through now and then, while everybody waits."""

LARGEST_KEPT_DOCUMENT = 32_768


@dataclass(frozen=True, slots=True)
class Document:
    """A document that has been looked at: what it holds, or what is wrong with it."""

    tree: DocumentNode | None
    operations: dict[str | None, OperationDefinitionNode]
    errors: list[GraphQLError]
    asking: Asking | None = None
    """What its operations ask for; None where it has errors."""
    plans: Plans | None = None
    """What of it is plain data; None where all is to go the ordinary path."""


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Strawberry's executor, with written functions for plain data, and its cheaper test for awaitables in
    subscriptions too."""

    def __init__(self, *args: Any, plans: Plans | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_awaitable = optimized_is_awaitable  # pyright: ignore[reportAttributeAccessIssue]
        # Methods of its own would keep it, and the variables with it, until the garbage collector comes by.
        this = proxy(self)
        self.async_helpers = GraphQLResolveInfoHelpers(
            partial(type(self).gather_async_work, this), partial(type(self).track_async_work, this)
        )
        self._selections = plans and plans.selections_of(self)
        if self.context_value is not None:
            self.context_value.selections = self._selections

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


async def _updated(fields: dict[str, Any], rest: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    fields.update(await rest)
    return fields


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
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._kept: dict[str, Document] = {}
        self._characters = 0
        self._rules = rules
        self._crowd = Crowd(rules.answers_bytes)
        self._write_plain_data = write_plain_data
        gather_fields_when_begun()
        _leave_out_null_defaults(self._schema)
        build_by_written_functions(self)

    def _extend_introspection(self) -> None:
        """Leave `isOneOf` as graphql-core tells it: Strawberry's way fails for lists, and for what is not null."""

    async def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] = (OperationType.QUERY, OperationType.MUTATION),
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run a query or mutation; errors as the client is to see them. PreExecutionError where nothing was run."""
        document = self.document(query)
        operation = self._checked(document, operation_name, variable_values, context_value)
        if isinstance(operation, PreExecutionError):
            return operation
        if OperationType(operation.operation.value) not in allowed_operation_types:
            return _refused(f"A {operation.operation.value} can not be sent this way.")
        result = await self._run(document, operation, variable_values, context_value)
        if operation_extensions and operation_extensions.get("cost") is True:
            result.extensions = {"cost": self._cost(document, operation, variable_values)}
        return result

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

    def document(self, query: str | None) -> Document:
        """The parsed and validated document, kept for the next time."""
        if query is None or not query or query.isspace():
            return Document(None, {}, [GraphQLError("There is no query.")])
        if (known := self._documents.get(query)) is not None:
            self._documents.move_to_end(query)
            return known
        if (kept := self._kept.get(query)) is not None:
            return kept
        document = self._look_at(query)
        if len(query) <= LARGEST_KEPT_DOCUMENT:
            self._documents[query] = document
            self._characters += len(query)
            while len(self._documents) > MOST_DOCUMENTS or self._characters > MOST_CHARACTERS:
                oldest, _ = self._documents.popitem(last=False)
                self._characters -= len(oldest)
        return document

    def keep(self, query: str) -> Document:
        """As `document`, and never forget it."""
        kept = self._kept[query] = self.document(query)
        return kept

    def operation(self, document: Document, name: str | None) -> OperationDefinitionNode | PreExecutionError:
        """The operation of this name, or the only one where no name is given; what is wrong, where it can not be run."""
        if document.errors:
            return PreExecutionError(data=None, errors=[public_error(fault) for fault in document.errors])
        if name is not None:
            operation = document.operations.get(name)
            return operation or _refused(f"The document has no operation named {name!r:.60}.")
        if len(document.operations) != 1:
            return _refused("The document has several operations: say which one with operationName.")
        return next(iter(document.operations.values()))

    def _checked(
        self, document: Document, name: str | None, variables: dict[str, Any] | None, context: Context | None
    ) -> OperationDefinitionNode | PreExecutionError:
        """As `operation`, with an eye on who asks, and on the variables."""
        operation = self.operation(document, name)
        if isinstance(operation, PreExecutionError):
            return operation
        assert document.asking is not None
        try:
            if context is not None and context.caller is not None:
                document.asking.check_access(operation, context.caller.scopes)
            faults, size = look_at_variables(variables) if variables else ([], 0)
            if not faults:
                document.asking.check(operation, variables or {}, size)
        except GraphQLError as error:
            faults = [error]
        return PreExecutionError(data=None, errors=[public_error(fault) for fault in faults]) if faults else operation

    def _cost(
        self, document: Document, operation: OperationDefinitionNode, variables: dict[str, Any] | None
    ) -> dict[str, int]:
        assert document.asking is not None
        return {"found": document.asking.cost(operation, variables or {}), "allowed": self._rules.limits.cost}

    def _look_at(self, query: str) -> Document:
        if len(query) > (allowed := self._rules.limits.characters):
            # One token can be as long as the document, and is read character by character.
            return Document(None, {}, [too_many("characters", allowed, len(query))])
        if (lines := query.count("\n") + query.count("\r") - query.count("\r\n") + 1) > MOST_LINES:
            # Each error counts them anew to say where it is.
            return Document(None, {}, [too_many("lines", MOST_LINES, lines)])
        try:
            tree = parse(query, max_tokens=self._rules.limits.tokens)
        except GraphQLError as error:
            return Document(None, {}, [_worded(error, self._rules.limits)])
        operations = {
            node.name.value if node.name else None: node
            for node in tree.definitions
            if isinstance(node, OperationDefinitionNode)
        }
        if not operations:
            return Document(None, {}, [GraphQLError("The document has no operation.")])
        try:
            # Before all else: validating takes more than linear time, and these limits bound it.
            asking = Asking.of(self._schema, tree, self._rules.limits)
        except GraphQLError as error:
            return Document(tree, operations, [error])
        errors = faults_in_document(tree) or faults_of(self._schema, tree, introspection=self._rules.introspection)
        return Document(tree, operations, errors, asking, Plans() if self._write_plain_data else None)

    async def _run(
        self,
        document: Document,
        operation: OperationDefinitionNode,
        variables: dict[str, Any] | None,
        context: Context | None,
    ) -> ExecutionResult:
        assert document.tree is not None
        context = context and context.for_operation()
        gives_way = operation.operation is OperationKind.QUERY
        weight = Weight(self._rules.limits.answer_bytes, self._crowd, gives_way=gives_way)
        weight.begin()
        deadline = Deadline(self._rules.request_seconds)
        if context is not None:
            context.deadline = deadline
        try:
            outcome = execute(
                self._schema,
                document.tree,
                context_value=context,
                variable_values=variables,
                operation_name=operation.name and operation.name.value,
                is_awaitable=optimized_is_awaitable,  # pyright: ignore[reportArgumentType]
                executor_class=Executor,
                hide_suggestions=not self._rules.introspection,
                plans=document.plans,
            )
            result = await outcome if isawaitable(outcome) else outcome
        except asyncio.CancelledError:
            if deadline.has_cancelled():
                return PreExecutionError(data=None, errors=[public_error(GraphQLError("", original_error=OutOfTime()))])
            raise
        finally:
            deadline.end()
        return _weighed(_public(result), weight)

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
        document = self.document(query)
        operation = self._checked(document, operation_name, variables, context)
        if isinstance(operation, PreExecutionError):
            yield operation
            return
        if operation.operation.value != OperationType.SUBSCRIPTION.value:
            yield await self._run(document, operation, variables, context)
            return
        assert document.tree is not None
        weight = self._event_weight()
        source = subscribe(
            self._schema,
            document.tree,
            context_value=context and context.for_operation(),
            variable_values=variables,
            operation_name=operation_name,
            executor_class=Executor,
            hide_suggestions=not self._rules.introspection,
            plans=document.plans,
        )
        if isawaitable(source):
            source = await source
        if isinstance(source, CoreResult):
            yield _public(source)
            return
        async with aclosing(cast("AsyncGenerator[CoreResult, None]", source)) as events:
            try:
                async for event in events:
                    yield _weighed(_public(event), weight)
                    weight.end()
                    weight = self._event_weight()
            except Exception as error:  # noqa: BLE001 - whatever a stream ends with is told like any other error
                field = operation.selection_set.selections[0]
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


def _public(result: Any) -> ExecutionResult:
    """The result with errors as the client is to see them; a PreExecutionError where nothing was run."""
    if not result.errors:
        return ExecutionResult(data=result.data, errors=None)
    errors = [public_error(error) for error in result.errors]
    if result.data is None and all(error.path is None for error in errors):
        return PreExecutionError(data=None, errors=errors)
    return ExecutionResult(data=result.data, errors=errors)


class Weighed(ExecutionResult):
    """A result that holds the room that it takes."""

    weight: Weight


def _weighed(result: ExecutionResult, weight: Weight) -> ExecutionResult:
    """The result; an error alone where it is too large."""
    if (refusal := weight.refusal()) is not None:
        return ExecutionResult(data=None, errors=[public_error(GraphQLError("", original_error=refusal))])
    if isinstance(result, PreExecutionError):
        return result
    held = Weighed(result.data, result.errors, result.extensions)
    held.weight = weight
    return held


def _refused(message: str) -> PreExecutionError:
    return PreExecutionError(data=None, errors=[public_error(GraphQLError(message))])


def _worded(error: GraphQLError, limits: Limits) -> GraphQLError:
    """What parsing raised; in our words where it stopped at the limit."""
    if error.message.startswith(f"Syntax Error: Document contains more than {limits.tokens} tokens"):
        return too_many("tokens", limits.tokens, None)
    return error
