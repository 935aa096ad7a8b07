"""How much one document may ask for, and the error of one that asks for more.

What a document costs is known before it is run, and most of it before it is validated: validating, too, costs more than
linear time. A fragment can be spread by others, so that a few hundred bytes select more than there is memory for; so a
document is first counted in one pass over its text (each fragment once), and only what is small enough is laid out.
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

MEANINGS = {
    "characters": "characters",
    "lines": "lines",
    "tokens": "tokens (names, numbers, signs)",
    "depth": "fields one within the other",
    "alias_characters": "characters in an alias",
    "aliases": "aliases, with those of each fragment wherever it is spread",
    "directives": "directives, with those of each fragment wherever it is spread",
    "fields": "fields and spreads, with those of each fragment wherever it is spread",
    "root_fields": "fields at the top of an operation",
    "repeats": "selections of one field in one place",
}
"""What a document is told that it has too many of."""

MOST_LINES = 10_000
LONGEST_ALIAS = 100
"""Characters: an alias is told with each of a thousand rows."""
MOST_NESTED = 250
"""Selection sets one within the other, through fragments too: beyond, nothing can be done with a document."""

ENDLESS = 10**9
"""Where counting stops."""


class TooComplex(GraphQLError):
    """The document asks for more than one may."""

    def __init__(self, limit: str, allowed: int, found: int | None, message: str, nodes: Collection[Node] = ()) -> None:
        extensions: dict[str, Any] = {"code": "QUERY_TOO_COMPLEX", "limit": _camel(limit), "allowed": allowed}
        if found is not None:
            extensions["found"] = found
        super().__init__(message, list(nodes), extensions=extensions)


def too_many(limit: str, allowed: int, found: int | None, *nodes: Node) -> TooComplex:
    """The error for a document that has too many of what `limit` counts."""
    found_shown = "more" if found is None else "endlessly many" if found >= ENDLESS else f"{found:,}"
    message = f"The document has {found_shown} {MEANINGS[limit]}; {allowed:,} are allowed."
    return TooComplex(limit, allowed, found, message, nodes)


class Counts(NamedTuple):
    """What a selection has, with all that its fragments bring."""

    fields: int = 0
    aliases: int = 0
    directives: int = 0
    depth: int = 0


NOTHING = Counts()


class Counter:
    """Counts what a document has, each fragment once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, Counts | None] = {}
        self.has_cycle = False
        """Whether a fragment was found within itself: then nothing is to be laid out."""
        self.is_too_nested = False
        self.longest_alias = 0
        self.unspread: list[str] = []
        """The fragments that no operation spreads."""

    def document(self, tree: DocumentNode) -> Counts:
        """All operations together; fragments that none of them spreads count as if one more did."""
        total = NOTHING
        for node in tree.definitions:
            if isinstance(node, OperationDefinitionNode):
                variables = sum(len(each.directives or ()) for each in node.variable_definitions or ())
                below = self._set(node.selection_set, 0)
                total = _beside(total, below, directives=len(node.directives or ()) + variables)
        for name in self._fragments:
            if name not in self._known:
                self.unspread.append(name)
                total = _beside(total, self._fragment(name, 0))
        return total

    def _set(self, selection_set: SelectionSetNode, level: int) -> Counts:
        fields = aliases = directives = depth = 0
        if level > MOST_NESTED:
            self.is_too_nested = True
            return NOTHING
        for node in selection_set.selections:
            directives += len(node.directives or ())
            # Empty selections are allowed, so that a spread has to count, or laying many out would cost nothing.
            fields += 1
            deeper = 0
            if isinstance(node, FieldNode):
                below = self._set(node.selection_set, level + 1) if node.selection_set else NOTHING
                if node.alias is not None:
                    aliases += 1
                    self.longest_alias = max(self.longest_alias, len(node.alias.value))
                deeper = 1
            elif isinstance(node, FragmentSpreadNode):
                below = self._fragment(node.name.value, level + 1)
            else:
                below = self._set(cast("InlineFragmentNode", node).selection_set, level + 1)
            fields += below.fields
            aliases += below.aliases
            directives += below.directives
            # Introspection is deep by its nature; graphql-core has a rule for what is dangerous in it.
            is_introspection = deeper and cast("FieldNode", node).name.value.startswith("__")
            depth = max(depth, 1 if is_introspection else below.depth + deeper)
        return Counts(min(fields, ENDLESS), min(aliases, ENDLESS), min(directives, ENDLESS), depth)

    def _fragment(self, name: str, level: int) -> Counts:
        if name in self._known:
            known = self._known[name]
            self.has_cycle = self.has_cycle or known is None
            return known or NOTHING
        if name not in self._fragments:
            return NOTHING
        node = self._fragments[name]
        self._known[name] = None
        counts = _beside(self._set(node.selection_set, level), directives=len(node.directives or ()))
        self._known[name] = counts
        return counts


def _beside(one: Counts, other: Counts = NOTHING, *, directives: int = 0) -> Counts:
    return Counts(
        min(one.fields + other.fields, ENDLESS),
        min(one.aliases + other.aliases, ENDLESS),
        min(one.directives + other.directives + directives, ENDLESS),
        max(one.depth, other.depth),
    )


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
