"""One operation of a document: what is found out about it once, and how it is run.

Nearly all operations have one field at their root, which answers with what is prepared, or plain data. Such a field is asked
directly: its variables and arguments are read, its resolver is called, and what that gives is completed, all by functions
that were made before. The rest is graphql-core's: several fields, data that is not plain, and whatever goes wrong, which it
gets to see as if it had called the resolver itself, and words.
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

from schema.context import Context
from schema.execution.codegen import NotPlain, OutputType, Prepared
from schema.execution.coercion import Arguments, Unreadable, Variables
from schema.execution.executor import UNRESOLVED, Executor
from schema.execution.selections import Selections

MOST_VARIANTS = 8
"""Sets of values for `@skip` and `@include`, each of one of a document's operations, that functions are kept for; beyond,
nothing is plain."""

Kept = dict[Any, Selections]
"""What a document's operations select."""


class Operation:
    """An operation of a document that has been validated."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        node: OperationDefinitionNode,
        kept: Kept,
        *,
        hide_suggestions: bool,
        write_plain_data: bool,
    ) -> None:
        """`kept` is one for all operations of the document. `write_plain_data`: whether anything is found out about this
        one; else all is graphql-core's."""
        self.node = node
        self.name = node.name and node.name.value
        self.type = OperationType(node.operation.value)
        self._schema = schema
        self._document = document
        self._hide_suggestions = hide_suggestions
        self._write_plain_data = write_plain_data
        self._kept = kept

    async def run(self, given: Mapping[str, Any], context: Context | None) -> ExecutionResult:
        """What comes of a query or mutation with these variables, which are JSON."""
        if self._variables is None:
            return await self._run_ordinarily(given, context)
        try:
            variables = self._variables.read(given)
        except Unreadable:
            return await self._run_ordinarily(given, context)
        resolved: Any = UNRESOLVED
        selections = self._selections_of(variables)
        field = selections and selections.plan(_RootField, partial(_RootField, selections, self._root))
        if selections is not None and field is not None:
            if context is not None:
                context.selections = selections
            try:
                resolved = field.resolve(variables, context)
                if optimized_is_awaitable(resolved):
                    resolved = await resolved
            except Exception as error:  # noqa: BLE001 - it is raised again where it belongs
                resolved = error
            try:
                return ExecutionResult({field.name: field.complete(resolved, selections)}, None)
            except Exception:  # noqa: BLE001, S110 - the ordinary path raises it again, and says where
                pass
        executor = Executor(
            self._schema,
            self._definitions,
            self._fragments,
            None,
            context,
            self.node,
            variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            hide_suggestions=self._hide_suggestions,
            selections_of=self._selections_of,
        )
        try:
            return await executor.run(resolved)
        finally:
            # An error would keep this frame, and be kept by it, until the garbage collector comes by.
            del resolved

    async def _run_ordinarily(self, given: Mapping[str, Any], context: Context | None) -> ExecutionResult:
        executor = cast("Any", Executor).build(
            self._schema, self._document, context_value=context, raw_variable_values=given, **self._choices
        )
        return await executor.run() if isinstance(executor, Executor) else ExecutionResult(None, executor)

    def subscribe(self, given: Mapping[str, Any], context: Context | None) -> Any:
        """What comes of a subscription: its events, or a result with errors, or either to be awaited."""
        return subscribe(
            self._schema,
            self._document,
            context_value=context,
            variable_values=cast("dict[str, Any]", given),
            executor_class=Executor,
            **self._choices,
        )

    @property
    def _choices(self) -> dict[str, Any]:
        return {
            "operation_name": self.name,
            "hide_suggestions": self._hide_suggestions,
            "selections_of": self._selections_of,
        }

    @cached_property
    def _variables(self) -> Variables | None:
        """None where graphql-core is to read them."""
        try:
            return Variables(self._schema, self.node) if self._write_plain_data else None
        except Unreadable:
            return None

    @cached_property
    def _definitions(self) -> dict[str, FragmentDefinitionNode]:
        fragments = [each for each in self._document.definitions if isinstance(each, FragmentDefinitionNode)]
        return {each.name.value: each for each in fragments}

    @cached_property
    def _fragments(self) -> dict[str, FragmentDetails]:
        return {name: FragmentDetails(each) for name, each in self._definitions.items()}

    @cached_property
    def _root(self) -> GraphQLObjectType:
        root = self._schema.get_root_type(self.node.operation)
        assert root is not None
        return root

    def _selections_of(self, variables: VariableValues) -> Selections | None:
        """What is selected with these variables; None where that is not to be kept."""
        if self._variables is None:
            return None
        # The other variables do not change what is selected.
        names = [name for name in self._variables.booleans if name in variables.coerced]
        values = {name: variables.coerced[name] for name in names}
        key = id(self.node), *values.items()
        if key not in self._kept:
            if len(self._kept) == MOST_VARIANTS:
                return None
            sources = {name: variables.sources[name] for name in names}
            self._kept[key] = Selections(
                self._schema,
                self._fragments,
                self.node,
                VariableValues(sources, values),
                hide_suggestions=self._hide_suggestions,
            )
        return self._kept[key]


class _Info:
    """What fields of the root use of what graphql-core tells them."""

    __slots__ = ("context", "field_nodes", "return_type")

    def __init__(self, context: Context | None, return_type: OutputType, field_nodes: Sequence[FieldNode]) -> None:
        self.context = context
        self.return_type = return_type
        self.field_nodes = field_nodes


class _RootField:
    """The one field of an operation's root."""

    def __init__(self, selections: Selections, root: GraphQLObjectType) -> None:
        """NotPlain where the operation has several, or this one is not ours."""
        fields = selections.collect_root(root)
        if len(fields) != 1:
            raise NotPlain
        ((self.name, self._details),) = fields.items()
        self._nodes = [each.node for each in self._details]
        declared = root.fields.get(self._nodes[0].name.value)
        if declared is None or GraphQLCoreConverter.DEFINITION_BACKREF not in declared.extensions:
            raise NotPlain
        try:
            self._arguments = Arguments(declared, self._nodes[0])
        except Unreadable:
            raise NotPlain from None
        self._type = declared.type
        self._resolve = declared.resolve

    def resolve(self, variables: VariableValues, context: Context | None) -> Any:
        """What the resolver gives, which may be awaitable; UNRESOLVED where it is not to be called."""
        try:
            arguments = self._arguments.read(variables)
        except Unreadable:
            return UNRESOLVED
        return self._resolve(None, _Info(context, self._type, self._nodes), **arguments)

    def complete(self, resolved: Any, selections: Selections) -> Any:
        """What was resolved, as it is answered. Raises where that is not plain."""
        if type(resolved) is Prepared:
            return resolved.value
        complete = None if resolved is UNRESOLVED else selections.completion(self._type, self._details)
        if complete is None:
            raise NotPlain
        return complete(resolved)
