"""Trusted documents: GraphQL documents stored on the server, which clients request by id instead of sending them.

A folder of `.graphql` files provides each document by its file name. A manifest, a JSON object that maps ids to
documents as graphql-codegen writes it (`persisted-documents.json`), provides each document by its id. In both cases the
SHA-256 of the text in hexadecimal is an id too, with or without the prefix `sha256:`. The operator can disallow all
other documents.

Clients of Apollo's automatic persisted queries send the SHA-256 first, and the document when the server does not know
it. The server registers no documents: it executes trusted ones and refuses all others with the error that makes these
clients send the document.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from resolvers.errors import ErrorCode
from schema.execution.engine import RunyardSchema


class TrustedDocumentsUnusable(Exception):
    """The setting does not name a valid folder or manifest of documents."""


class DocumentRefused(Exception):
    """The request does not contain or name a document that may be executed."""

    def __init__(self, code: ErrorCode, message: str, argument: str | None = "documentId") -> None:
        super().__init__(message)
        self.extensions = {"code": code} if argument is None else {"code": code, "argument": argument}


@dataclass(frozen=True, slots=True)
class TrustedDocuments:
    """Trusted documents by id."""

    by_id: Mapping[str, str] = field(default_factory=dict[str, str])
    is_exclusive: bool = False
    """Whether all other documents are refused."""

    @classmethod
    def load(cls, path: Path | None, *, is_exclusive: bool) -> "TrustedDocuments":
        """Load the documents of a folder or manifest; none without a path. Raises TrustedDocumentsUnusable."""
        if path is None:
            if is_exclusive:
                raise TrustedDocumentsUnusable("RUNYARD_ONLY_TRUSTED_DOCUMENTS requires RUNYARD_TRUSTED_DOCUMENTS.")
            return cls()
        try:
            documents = _read_folder(path) if path.is_dir() else _read_manifest(path)
        except (OSError, ValueError) as error:
            raise TrustedDocumentsUnusable(f"RUNYARD_TRUSTED_DOCUMENTS: {path} cannot be read: {error}") from None
        by_id: dict[str, str] = {}
        for text in documents.values():
            digest = hashlib.sha256(text.encode()).hexdigest()
            by_id |= {digest: text, f"sha256:{digest}": text}
        return cls(documents | by_id, is_exclusive)

    def pin(self, schema: RunyardSchema) -> None:
        """Keep the documents in the schema's cache. Raises TrustedDocumentsUnusable when one of them is invalid."""
        for id, text in self.by_id.items():
            for error in schema.documents.pin(text).errors:
                raise TrustedDocumentsUnusable(f"RUNYARD_TRUSTED_DOCUMENTS: {id}: {error.message}")

    def resolve(self, parameters: Mapping[str, Any]) -> object:
        """Return the document that a request names by id, or its `query` as it is. Raises DocumentRefused."""
        id, query = parameters.get("documentId"), parameters.get("query")
        if id is None:
            if not query and has_persisted_query(parameters):
                return self._resolve_persisted_query(parameters["extensions"]["persistedQuery"])
            if self.is_exclusive:
                raise DocumentRefused(
                    ErrorCode.FORBIDDEN,
                    "This server executes only trusted documents. Send the id of one as documentId.",
                )
            return query
        # Some clients cannot omit the query and send an empty one.
        if query is not None and query != "":
            raise DocumentRefused(ErrorCode.BAD_USER_INPUT, "Send a query or a documentId, not both.")
        if not isinstance(id, str):
            raise DocumentRefused(ErrorCode.BAD_USER_INPUT, "documentId must be a string.")
        if id not in self.by_id:
            raise DocumentRefused(ErrorCode.BAD_USER_INPUT, f"No trusted document has the id {id!r:.100}.")
        return self.by_id[id]

    def _resolve_persisted_query(self, persisted_query: Any) -> str:
        digest = (
            cast("dict[str, Any]", persisted_query).get("sha256Hash") if isinstance(persisted_query, dict) else None
        )
        if not isinstance(digest, str) or digest not in self.by_id:
            # Clients compare both texts exactly.
            raise DocumentRefused(ErrorCode.PERSISTED_QUERY_NOT_SUPPORTED, "PersistedQueryNotSupported", argument=None)
        return self.by_id[digest]


def has_persisted_query(parameters: Mapping[str, Any]) -> bool:
    """Return whether the request has the extension `persistedQuery`, which can replace its document."""
    extensions = parameters.get("extensions")
    return isinstance(extensions, dict) and cast("dict[str, Any]", extensions).get("persistedQuery") is not None


def _read_folder(path: Path) -> dict[str, str]:
    documents: dict[str, str] = {}
    for file in sorted(path.rglob("*.graphql")):
        if file.stem in documents:
            raise ValueError(f"two documents are named {file.stem}")
        documents[file.stem] = file.read_text("utf-8")
    if not documents:
        raise ValueError("the folder contains no .graphql files")
    return documents


def _read_manifest(path: Path) -> dict[str, str]:
    manifest = orjson.loads(path.read_bytes())
    if not isinstance(manifest, dict):
        raise ValueError("it is not a JSON object that maps ids to documents")
    documents = cast("dict[str, Any]", manifest)
    if not all(isinstance(text, str) for text in documents.values()):
        raise ValueError("it is not a JSON object that maps ids to documents")
    return documents
