"""Validates documents in bounded time.

Producing an error message costs more than finding the error: an unknown name is compared with all known names, and
values are printed whole. Validation therefore reports the first few errors only.
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

MAX_ERRORS = 5


def validate_document(schema: GraphQLSchema, tree: DocumentNode, *, introspection: bool) -> list[GraphQLError]:
    """Return the first MAX_ERRORS validation errors of the document; one more reports that validation stopped there."""
    if not all(isinstance(node, ExecutableDefinitionNode) for node in tree.definitions):
        # Other rules would compare each unknown name with all names that the document defines.
        return validate(schema, tree, [ExecutableDefinitionsRule], MAX_ERRORS)
    rules = specified_rules if introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
    return validate(schema, tree, rules, MAX_ERRORS, hide_suggestions=not introspection)
