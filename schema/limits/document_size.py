"""Limits on the size of one document, and the error for a document that exceeds one.

Sizes are checked before execution, and most of them before validation, which takes more than linear time. Fragments can
spread other fragments, and a few hundred bytes can select more than fits in memory. A first pass therefore counts the
document and visits each fragment once. Only documents within the limits are analyzed further.
"""

from collections.abc import Collection
from typing import Any, NamedTuple, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
)

from resolvers.errors import ErrorCode
from schema.naming import to_camel_case

LIMIT_DESCRIPTIONS = {
    "characters": "characters",
    "lines": "lines",
    "tokens": "tokens (names, numbers, punctuation)",
    "depth": "levels of nested fields",
    "alias_characters": "characters in an alias",
    "aliases": "aliases, counting each fragment at every spread",
    "directives": "directives, counting each fragment at every spread",
    "fields": "fields and spreads, counting each fragment at every spread",
    "root_fields": "root fields in one operation",
    "repeats": "selections of the same field in one place",
}
"""What each limit counts, as error messages name it."""

MAX_LINES = 10_000
MAX_ALIAS_CHARACTERS = 100
"""Maximum length of an alias. The response repeats it for each of up to a thousand rows."""
MAX_NESTING = 250
"""Maximum nesting of selection sets, through fragments too. Deeper documents cannot be processed."""

MAX_COUNT = 10**9
"""Upper bound of all counts. Counts do not grow beyond it."""


class QueryTooComplex(GraphQLError):
    """The document or operation exceeds a limit."""

    def __init__(self, limit: str, allowed: int, found: int | None, message: str, nodes: Collection[Node] = ()) -> None:
        extensions: dict[str, Any] = {
            "code": ErrorCode.QUERY_TOO_COMPLEX,
            "limit": to_camel_case(limit),
            "allowed": allowed,
        }
        if found is not None:
            extensions["found"] = found
        super().__init__(message, list(nodes), extensions=extensions)


def limit_exceeded(limit: str, allowed: int, found: int | None, *nodes: Node) -> QueryTooComplex:
    """Return the error for a document that exceeds `limit`. `found` is None when the number is unknown."""
    shown_count = "too many" if found is None else f"at least {MAX_COUNT:,}" if found >= MAX_COUNT else f"{found:,}"
    message = (
        f"The document has {shown_count} {LIMIT_DESCRIPTIONS[limit]}; the limit is {allowed:,}. "
        "Simplify it or split it into several requests."
    )
    return QueryTooComplex(limit, allowed, found, message, nodes)


class SelectionCounts(NamedTuple):
    """Counts of a selection set, including its fragments."""

    fields: int = 0
    aliases: int = 0
    directives: int = 0
    depth: int = 0


NO_SELECTIONS = SelectionCounts()


class SelectionCounter:
    """Counts the selections of a document. Visits each fragment once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._fragment_counts: dict[str, SelectionCounts | None] = {}
        self.has_cycle = False
        """Whether a fragment contains itself. The fields of the document must not be collected then."""
        self.is_too_nested = False
        self.longest_alias = 0
        self.unused_fragments: list[str] = []
        """Fragments that no operation spreads."""

    def count_document(self, tree: DocumentNode) -> SelectionCounts:
        """Return the counts of all operations together. Unused fragments count as if one operation spread them."""
        total = NO_SELECTIONS
        for node in tree.definitions:
            if isinstance(node, OperationDefinitionNode):
                variables = sum(len(each.directives or ()) for each in node.variable_definitions or ())
                nested = self._count_selection_set(node.selection_set, 0)
                total = _add_counts(total, nested, directives=len(node.directives or ()) + variables)
        for name in self._fragments:
            if name not in self._fragment_counts:
                self.unused_fragments.append(name)
                total = _add_counts(total, self._count_fragment(name, 0))
        return total

    def _count_selection_set(self, selection_set: SelectionSetNode, level: int) -> SelectionCounts:
        fields = aliases = directives = depth = 0
        if level > MAX_NESTING:
            self.is_too_nested = True
            return NO_SELECTIONS
        for node in selection_set.selections:
            directives += len(node.directives or ())
            # Collecting the fields of a fragment takes time: a spread therefore counts as a field.
            fields += 1
            depth_increment = 0
            if isinstance(node, FieldNode):
                nested = (
                    self._count_selection_set(node.selection_set, level + 1) if node.selection_set else NO_SELECTIONS
                )
                if node.alias is not None:
                    aliases += 1
                    self.longest_alias = max(self.longest_alias, len(node.alias.value))
                depth_increment = 1
            elif isinstance(node, FragmentSpreadNode):
                nested = self._count_fragment(node.name.value, level + 1)
            else:
                nested = self._count_selection_set(cast("InlineFragmentNode", node).selection_set, level + 1)
            fields += nested.fields
            aliases += nested.aliases
            directives += nested.directives
            # Introspection is deep by nature. MaxIntrospectionDepthRule of graphql-core limits its dangerous fields.
            is_introspection = depth_increment and cast("FieldNode", node).name.value.startswith("__")
            depth = max(depth, 1 if is_introspection else nested.depth + depth_increment)
        return SelectionCounts(min(fields, MAX_COUNT), min(aliases, MAX_COUNT), min(directives, MAX_COUNT), depth)

    def _count_fragment(self, name: str, level: int) -> SelectionCounts:
        if name in self._fragment_counts:
            cached = self._fragment_counts[name]
            self.has_cycle = self.has_cycle or cached is None
            return cached or NO_SELECTIONS
        if name not in self._fragments:
            return NO_SELECTIONS
        node = self._fragments[name]
        self._fragment_counts[name] = None
        counts = _add_counts(
            self._count_selection_set(node.selection_set, level), directives=len(node.directives or ())
        )
        self._fragment_counts[name] = counts
        return counts


def _add_counts(
    first: SelectionCounts, second: SelectionCounts = NO_SELECTIONS, *, directives: int = 0
) -> SelectionCounts:
    return SelectionCounts(
        min(first.fields + second.fields, MAX_COUNT),
        min(first.aliases + second.aliases, MAX_COUNT),
        min(first.directives + second.directives + directives, MAX_COUNT),
        max(first.depth, second.depth),
    )
