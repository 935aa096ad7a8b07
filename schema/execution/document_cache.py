"""Documents, parsed and validated once and kept: both cost several times what a small operation does."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, parse
from strawberry.types.execution import PreExecutionError

from schema.errors import public_error
from schema.execution.operation import Kept, Operation
from schema.limits.cost import Asking
from schema.limits.document_size import MOST_LINES, too_many
from schema.limits.options import Limits, Rules
from schema.limits.text_checks import faults_in_document
from schema.limits.validation import faults_of

MOST_DOCUMENTS = 500
MOST_CHARACTERS = 200_000
"""What the documents that are kept may have together. A character can take two hundred bytes once it is parsed, in objects
that the garbage collector looks through now and then, while everybody waits."""

LARGEST_KEPT_DOCUMENT = 32_768


@dataclass(frozen=True, slots=True)
class Document:
    """A document that has been looked at: what it holds, or what is wrong with it."""

    operations: Mapping[str | None, Operation]
    errors: list[GraphQLError]
    asking: Asking | None = None
    """What its operations ask for; None where it has errors."""


class Documents:
    """What a schema has been asked."""

    def __init__(self, schema: GraphQLSchema, rules: Rules, *, write_plain_data: bool) -> None:
        self._schema = schema
        self._rules = rules
        self._write_plain_data = write_plain_data
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._kept: dict[str, Document] = {}
        self._characters = 0

    def of(self, query: str | None) -> Document:
        """The parsed and validated document, kept for the next time."""
        if query is None or not query or query.isspace():
            return Document({}, [GraphQLError("There is no query.")])
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
        """As `of`, and never forget it."""
        kept = self._kept[query] = self.of(query)
        return kept

    def find(self, query: str | None, name: str | None) -> Operation | None:
        """The operation of this document that has this name; None where there is none that can be run."""
        operation = self.operation(self.of(query), name)
        return None if isinstance(operation, PreExecutionError) else operation

    def operation(self, document: Document, name: str | None) -> Operation | PreExecutionError:
        """The operation of this name, or the only one where no name is given; what is wrong, where it can not be run."""
        if document.errors:
            return PreExecutionError(data=None, errors=[public_error(fault) for fault in document.errors])
        if name is not None:
            operation = document.operations.get(name)
            return operation or refused(f"The document has no operation named {name!r:.60}.")
        if len(document.operations) != 1:
            return refused("The document has several operations: say which one with operationName.")
        return next(iter(document.operations.values()))

    def _look_at(self, query: str) -> Document:
        if len(query) > (allowed := self._rules.limits.characters):
            # One token can be as long as the document, and is read character by character.
            return Document({}, [too_many("characters", allowed, len(query))])
        if (lines := query.count("\n") + query.count("\r") - query.count("\r\n") + 1) > MOST_LINES:
            # Each error counts them anew to say where it is.
            return Document({}, [too_many("lines", MOST_LINES, lines)])
        try:
            tree = parse(query, max_tokens=self._rules.limits.tokens)
        except GraphQLError as error:
            return Document({}, [_worded(error, self._rules.limits)])
        nodes = [node for node in tree.definitions if isinstance(node, OperationDefinitionNode)]
        if not nodes:
            return Document({}, [GraphQLError("The document has no operation.")])
        try:
            # Before all else: validating takes more than linear time, and these limits bound it.
            asking = Asking.of(self._schema, tree, self._rules.limits)
        except GraphQLError as error:
            return Document({}, [error])
        errors = faults_in_document(tree) or faults_of(self._schema, tree, introspection=self._rules.introspection)
        kept: Kept = {}
        operations = [self._operation(tree, node, kept) for node in nodes]
        return Document({each.name: each for each in operations}, errors, asking)

    def _operation(self, tree: DocumentNode, node: OperationDefinitionNode, kept: Kept) -> Operation:
        return Operation(
            self._schema,
            tree,
            node,
            kept,
            hide_suggestions=not self._rules.introspection,
            write_plain_data=self._write_plain_data,
        )


def refused(message: str) -> PreExecutionError:
    """What is answered where nothing is run."""
    return PreExecutionError(data=None, errors=[public_error(GraphQLError(message))])


def _worded(error: GraphQLError, limits: Limits) -> GraphQLError:
    """What parsing raised; in our words where it stopped at the limit."""
    if error.message.startswith(f"Syntax Error: Document contains more than {limits.tokens} tokens"):
        return too_many("tokens", limits.tokens, None)
    return error
