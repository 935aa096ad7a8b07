"""Caches parsed and validated documents. Parsing and validating cost several times as much as a small operation."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, parse
from strawberry.types.execution import PreExecutionError

from schema.errors import to_client_error
from schema.execution.operation import Operation, SelectionCache
from schema.limits.cost import DocumentAnalysis
from schema.limits.document_size import MAX_LINES, limit_exceeded
from schema.limits.options import EngineOptions, RequestLimits
from schema.limits.text_checks import find_literal_errors
from schema.limits.validation import validate_document

MAX_CACHED_DOCUMENTS = 500
MAX_CACHED_CHARACTERS = 200_000
"""Maximum total length of the cached documents.

A parsed character can take two hundred bytes, in objects that the garbage collector traverses while all requests wait.
"""

MAX_CACHED_DOCUMENT_CHARACTERS = 32_768


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed and validated document: its operations, or its errors."""

    operations: Mapping[str | None, Operation]
    errors: list[GraphQLError]
    analysis: DocumentAnalysis | None = None
    """Costs, filters and scopes of its operations; None when it could not be parsed or exceeds a limit."""


class DocumentCache:
    """Cache of documents. The least recently used documents are evicted first; pinned documents stay."""

    def __init__(self, schema: GraphQLSchema, options: EngineOptions, *, use_fast_path: bool) -> None:
        self._schema = schema
        self._options = options
        self._use_fast_path = use_fast_path
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._pinned: dict[str, Document] = {}
        self._characters = 0

    def get(self, query: str | None) -> Document:
        """Return the parsed and validated document and cache it."""
        if query is None or not query or query.isspace():
            return Document({}, [GraphQLError("The request has no query. Send a GraphQL document in `query`.")])
        if (cached := self._documents.get(query)) is not None:
            self._documents.move_to_end(query)
            return cached
        if (pinned := self._pinned.get(query)) is not None:
            return pinned
        document = self._parse_and_validate(query)
        if len(query) <= MAX_CACHED_DOCUMENT_CHARACTERS:
            self._documents[query] = document
            self._characters += len(query)
            while len(self._documents) > MAX_CACHED_DOCUMENTS or self._characters > MAX_CACHED_CHARACTERS:
                oldest, _ = self._documents.popitem(last=False)
                self._characters -= len(oldest)
        return document

    def pin(self, query: str) -> Document:
        """Return the document as `get` does and never evict it."""
        pinned = self._pinned[query] = self.get(query)
        return pinned

    def find_operation(self, query: str | None, name: str | None) -> Operation | None:
        """Return the operation with this name; None when it does not exist or cannot be executed."""
        operation = self.select_operation(self.get(query), name)
        return None if isinstance(operation, PreExecutionError) else operation

    def select_operation(self, document: Document, name: str | None) -> Operation | PreExecutionError:
        """Return the operation with this name, or the only one when `name` is None; the errors when it is invalid."""
        if document.errors:
            return PreExecutionError(data=None, errors=[to_client_error(error) for error in document.errors])
        if name is not None:
            operation = document.operations.get(name)
            return operation or pre_execution_error(f"The document has no operation named {name!r:.60}.")
        if len(document.operations) != 1:
            return pre_execution_error("The document has several operations. Select one with `operationName`.")
        return next(iter(document.operations.values()))

    def _parse_and_validate(self, query: str) -> Document:
        if len(query) > (allowed := self._options.limits.characters):
            # The limit on tokens does not bound the length: one token can be as long as the document.
            return Document({}, [limit_exceeded("characters", allowed, len(query))])
        if (lines := query.count("\n") + query.count("\r") - query.count("\r\n") + 1) > MAX_LINES:
            # Each error counts the lines again to report its location.
            return Document({}, [limit_exceeded("lines", MAX_LINES, lines)])
        try:
            tree = parse(query, max_tokens=self._options.limits.tokens, allow_empty_selection_sets=False)
        except GraphQLError as error:
            return Document({}, [_limit_or_syntax_error(error, self._options.limits)])
        nodes = [node for node in tree.definitions if isinstance(node, OperationDefinitionNode)]
        if not nodes:
            return Document(
                {}, [GraphQLError("The document has no operation. It must contain a query, mutation or subscription.")]
            )
        try:
            # The analysis precedes validation: its limits bound the time of validation, which is more than linear.
            analysis = DocumentAnalysis.from_document(self._schema, tree, self._options.limits)
        except GraphQLError as error:
            return Document({}, [error])
        errors = find_literal_errors(tree) or validate_document(
            self._schema, tree, introspection=self._options.introspection
        )
        selection_cache: SelectionCache = {}
        operations = [self._build_operation(tree, node, selection_cache) for node in nodes]
        return Document({each.name: each for each in operations}, errors, analysis)

    def _build_operation(
        self, tree: DocumentNode, node: OperationDefinitionNode, selection_cache: SelectionCache
    ) -> Operation:
        return Operation(
            self._schema,
            tree,
            node,
            selection_cache,
            hide_suggestions=not self._options.introspection,
            use_fast_path=self._use_fast_path,
        )


def pre_execution_error(message: str) -> PreExecutionError:
    """Return the result of an operation that is not executed."""
    return PreExecutionError(data=None, errors=[to_client_error(GraphQLError(message))])


def _limit_or_syntax_error(error: GraphQLError, limits: RequestLimits) -> GraphQLError:
    """Return the error that parsing raised; a limit error when it stopped at the token limit."""
    if error.message.startswith(f"Syntax Error: Document contains more than {limits.tokens} tokens"):
        return limit_exceeded("tokens", limits.tokens, None)
    return error
