"""Prepares one operation of a document once and executes it.

Nearly all operations have one root field, whose result is already completed or can be completed by a compiled function.
For such a field, functions built in advance coerce the variables and arguments, call the resolver and complete its
result. graphql-core executes the rest: several root fields, selections that cannot be compiled, and everything that
fails. It receives what the resolver returned or raised, as if it had called the resolver itself, and reports the
errors.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, cast

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    default_field_resolver,  # pyright: ignore[reportUnknownVariableType]
    default_type_resolver,  # pyright: ignore[reportUnknownVariableType]
)
from graphql.execution import subscribe  # pyright: ignore[reportUnknownVariableType]
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.graphql import OperationType

from schema.execution.codegen import CompletedValue, NotCompilable, OutputType
from schema.execution.coercion import ArgumentCoercer, CoercionFailed, VariableCoercer
from schema.execution.executor import UNRESOLVED, Executor
from schema.execution.operation_context import OperationContext
from schema.execution.selections import Selections

MAX_CACHED_SELECTIONS = 8
"""Maximum number of cached `Selections` per document: one per operation and set of values for `@skip` and `@include`.

Operations beyond it are executed by graphql-core.
"""

SelectionCache = dict[Any, Selections]
"""Selections of a document's operations."""


class Operation:
    """An operation of a validated document."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        node: OperationDefinitionNode,
        selection_cache: SelectionCache,
        *,
        hide_suggestions: bool,
        use_fast_path: bool,
    ) -> None:
        """`selection_cache` is shared by all operations of the document.

        Without `use_fast_path`, graphql-core executes the operation.
        """
        self.node = node
        self.name = node.name and node.name.value
        self.type = OperationType(node.operation.value)
        self._schema = schema
        self._document_node = document
        self._hide_suggestions = hide_suggestions
        self._use_fast_path = use_fast_path
        self._selection_cache = selection_cache

    async def run(self, raw_variables: Mapping[str, Any], context: OperationContext | None) -> ExecutionResult:
        """Execute a query or mutation with these variables, given as JSON values."""
        if self._variable_coercer is None:
            return await self._run_with_graphql_core(raw_variables, context)
        try:
            variables = self._variable_coercer.coerce(raw_variables)
        except CoercionFailed:
            return await self._run_with_graphql_core(raw_variables, context)
        resolved: Any = UNRESOLVED
        selections = self._find_selections(variables)
        field = selections and selections.cached_plan(_RootField, partial(_RootField, selections, self._root_type))
        if selections is not None and field is not None:
            if context is not None:
                context.selections = selections
            try:
                resolved = field.resolve(variables, context)
                if optimized_is_awaitable(resolved):
                    resolved = await resolved
            except Exception as error:  # noqa: BLE001 - the executor raises it again at its field
                resolved = error
            try:
                return ExecutionResult({field.name: field.complete(resolved, selections)}, None)
            except Exception:  # noqa: BLE001, S110 - graphql-core raises it again, with its location
                pass
        executor = Executor(
            self._schema,
            self._fragment_definitions,
            self._fragment_details,
            None,
            context,
            self.node,
            variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            hide_suggestions=self._hide_suggestions,
            find_selections=self._find_selections,
        )
        try:
            return await executor.run(resolved)
        finally:
            # An error and this frame would form a reference cycle that lasts until the next garbage collection.
            del resolved

    async def _run_with_graphql_core(
        self, raw_variables: Mapping[str, Any], context: OperationContext | None
    ) -> ExecutionResult:
        executor = cast("Any", Executor).build(
            self._schema,
            self._document_node,
            context_value=context,
            raw_variable_values=raw_variables,
            **self._executor_options,
        )
        return await executor.run() if isinstance(executor, Executor) else ExecutionResult(None, executor)

    def subscribe(self, raw_variables: Mapping[str, Any], context: OperationContext | None) -> Any:
        """Execute a subscription: return its events, or a result with errors, or an awaitable of either."""
        return subscribe(
            self._schema,
            self._document_node,
            context_value=context,
            variable_values=cast("dict[str, Any]", raw_variables),
            executor_class=Executor,
            **self._executor_options,
        )

    @property
    def _executor_options(self) -> dict[str, Any]:
        return {
            "operation_name": self.name,
            "hide_suggestions": self._hide_suggestions,
            "find_selections": self._find_selections,
        }

    @cached_property
    def _variable_coercer(self) -> VariableCoercer | None:
        """Coercer for the variables; None when graphql-core must coerce them."""
        try:
            return VariableCoercer(self._schema, self.node) if self._use_fast_path else None
        except CoercionFailed:
            return None

    @cached_property
    def _fragment_definitions(self) -> dict[str, FragmentDefinitionNode]:
        fragments = [each for each in self._document_node.definitions if isinstance(each, FragmentDefinitionNode)]
        return {each.name.value: each for each in fragments}

    @cached_property
    def _fragment_details(self) -> dict[str, FragmentDetails]:
        return {name: FragmentDetails(each) for name, each in self._fragment_definitions.items()}

    @cached_property
    def _root_type(self) -> GraphQLObjectType:
        root = self._schema.get_root_type(self.node.operation)
        assert root is not None
        return root

    def _find_selections(self, variables: VariableValues) -> Selections | None:
        """Return the selections with these variables; None when they cannot be cached."""
        if self._variable_coercer is None:
            return None
        # Other variables do not change which fields are selected.
        names = [name for name in self._variable_coercer.boolean_variables if name in variables.coerced]
        values = {name: variables.coerced[name] for name in names}
        key = id(self.node), *values.items()
        if key not in self._selection_cache:
            if len(self._selection_cache) == MAX_CACHED_SELECTIONS:
                return None
            sources = {name: variables.sources[name] for name in names}
            self._selection_cache[key] = Selections(
                self._schema,
                self._fragment_details,
                self.node,
                VariableValues(sources, values),
                hide_suggestions=self._hide_suggestions,
            )
        return self._selection_cache[key]


class _ResolveInfo:
    """The part of graphql-core's resolve info that root fields use."""

    __slots__ = ("context", "field_nodes", "return_type")

    def __init__(
        self, context: OperationContext | None, return_type: OutputType, field_nodes: Sequence[FieldNode]
    ) -> None:
        self.context = context
        self.return_type = return_type
        self.field_nodes = field_nodes


class _RootField:
    """The only root field of an operation."""

    def __init__(self, selections: Selections, root: GraphQLObjectType) -> None:
        """Raise NotCompilable when the operation has several root fields or this one belongs to introspection."""
        fields = selections.collect_root_fields(root)
        if len(fields) != 1:
            raise NotCompilable
        ((self.name, self._details),) = fields.items()
        self._nodes = [each.node for each in self._details]
        declared = root.fields.get(self._nodes[0].name.value)
        if declared is None or GraphQLCoreConverter.DEFINITION_BACKREF not in declared.extensions:
            raise NotCompilable
        try:
            self._argument_coercer = ArgumentCoercer(declared, self._nodes[0])
        except CoercionFailed:
            raise NotCompilable from None
        self._type = declared.type
        self._resolve = declared.resolve

    def resolve(self, variables: VariableValues, context: OperationContext | None) -> Any:
        """Call the resolver and return its result or awaitable; UNRESOLVED when the arguments are invalid."""
        try:
            arguments = self._argument_coercer.coerce(variables)
        except CoercionFailed:
            return UNRESOLVED
        return self._resolve(None, _ResolveInfo(context, self._type, self._nodes), **arguments)

    def complete(self, resolved: Any, selections: Selections) -> Any:
        """Return the completed result. Raises an exception when only graphql-core can complete it."""
        if type(resolved) is CompletedValue:
            return resolved.value
        complete = None if resolved is UNRESOLVED else selections.compile_completion(self._type, self._details)
        if complete is None:
            raise NotCompilable
        return complete(resolved)
