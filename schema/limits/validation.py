"""Whether a document is valid, found out in bounded time.

Wording what is wrong costs more than finding it: names are compared with all that there are, values are printed whole. So a
client is told of the first faults, and mends these first.
"""

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
    ExecutableDefinitionsRule,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    specified_rules,
    validate,
)

MOST_FAULTS = 5


def faults_of(schema: GraphQLSchema, tree: DocumentNode, *, introspection: bool) -> list[GraphQLError]:
    """What is wrong with the document; the first few faults, and that there are more."""
    if not all(isinstance(node, ExecutableDefinitionNode) for node in tree.definitions):
        # Any name that is not known would be compared with all those that the document defines.
        return validate(schema, tree, [ExecutableDefinitionsRule], MOST_FAULTS)
    rules = specified_rules if introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
    return validate(schema, tree, rules, MOST_FAULTS, hide_suggestions=not introspection)
