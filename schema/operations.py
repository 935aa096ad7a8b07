"""One operation of a document: what is found out about it once, and how it is run.

Nearly all operations have one field at their root, which answers with what is prepared, or plain data. Such a field is asked
directly: its variables and arguments are read, its resolver is called, and what that gives is completed, all by functions
that were made before. The rest is graphql-core's: several fields, data that is not plain, and whatever goes wrong, which it
gets to see as if it had called the resolver itself, and words.
"""

from collections.abc import Mapping, Sequence
from functools import partial
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
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema_converter import GraphQLCoreConverter

from schema.coercion import Arguments, Unreadable, Variables
from schema.completion import NotPlain, OutputType, Prepared
from schema.context import Context
from schema.executor import UNRESOLVED, Executor
from schema.plain import Selections

MOST_VARIANTS = 8
"""Sets of values for `@skip` and `@include` that one operation's functions are kept for; beyond, nothing is plain."""


class Operation:
    """An operation of a document that has been validated."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, node: OperationDefinitionNode, *, hide_suggestions: bool
    ) -> None:
        """Unreadable where graphql-core is to say something about its variables, whatever they are."""
        self._schema = schema
        self._document = document
        self._node = node
        self._hide_suggestions = hide_suggestions
        root = schema.get_root_type(node.operation)
        assert root is not None
        self._root = root
        fragments = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
        self._definitions = {each.name.value: each for each in fragments}
        self._fragments = {each.name.value: FragmentDetails(each) for each in fragments}
        self._variables = Variables(schema, node)
        self._selections: dict[Any, Selections] = {}

    def selections_of(self, variables: VariableValues) -> Selections | None:
        """What is selected with these variables; None where that is not to be kept."""
        # The other variables do not change what is selected.
        names = [name for name in self._variables.booleans if name in variables.coerced]
        values = {name: variables.coerced[name] for name in names}
        key = tuple(values.items())
        if key not in self._selections:
            if len(self._selections) == MOST_VARIANTS:
                return None
            sources = {name: variables.sources[name] for name in names}
            self._selections[key] = Selections(
                self._schema,
                self._fragments,
                self._node,
                VariableValues(sources, values),
                hide_suggestions=self._hide_suggestions,
            )
        return self._selections[key]

    async def run(self, given: Mapping[str, Any], context: Context | None) -> ExecutionResult:
        """What comes of a query or mutation with these variables, which are JSON."""
        try:
            variables = self._variables.read(given)
        except Unreadable:
            return await run_ordinarily(
                self._schema, self._document, self._node, given, context, hide_suggestions=self._hide_suggestions
            )
        resolved: Any = UNRESOLVED
        selections = self.selections_of(variables)
        field = selections and selections.plan(_RootField, partial(_RootField, selections, self._root))
        if selections is not None and field is not None:
            if context is not None:
                context.selections = selections
            resolved = await field.resolve(variables, context)
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
            self._node,
            variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            hide_suggestions=self._hide_suggestions,
            selections_of=self.selections_of,
        )
        return await executor.run(resolved)


async def run_ordinarily(
    schema: GraphQLSchema,
    document: DocumentNode,
    node: OperationDefinitionNode,
    given: Mapping[str, Any],
    context: Context | None,
    *,
    hide_suggestions: bool,
) -> ExecutionResult:
    """As `Operation.run`, by nothing but graphql-core."""
    executor = cast("Any", Executor).build(
        schema,
        document,
        context_value=context,
        raw_variable_values=given,
        operation_name=node.name and node.name.value,
        hide_suggestions=hide_suggestions,
    )
    return await executor.run() if isinstance(executor, Executor) else ExecutionResult(None, executor)


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

    async def resolve(self, variables: VariableValues, context: Context | None) -> Any:
        """What the resolver gives, or the error that it raises; UNRESOLVED where it is not to be called."""
        try:
            arguments = self._arguments.read(variables)
        except Unreadable:
            return UNRESOLVED
        try:
            resolved = self._resolve(None, _Info(context, self._type, self._nodes), **arguments)
            return await resolved if optimized_is_awaitable(resolved) else resolved
        except Exception as error:  # noqa: BLE001 - it is raised again where it belongs
            return error

    def complete(self, resolved: Any, selections: Selections) -> Any:
        """What was resolved, as it is answered. Raises where that is not plain."""
        if type(resolved) is Prepared:
            return resolved.value
        complete = None if resolved is UNRESOLVED else selections.completion(self._type, self._details)
        if complete is None:
            raise NotPlain
        return complete(resolved)
