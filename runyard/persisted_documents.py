"""Trusted documents: what clients may ask by an id instead of sending it, and, where an operator says so, nothing else.

A folder of `.graphql` files serves each by its name. A manifest, which is a JSON object of ids and documents, as
graphql-codegen writes it (`persisted-documents.json`), serves each by its id. Either way a document also goes by the
SHA-256 of its text, in hexadecimal, with `sha256:` before it or without.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from schema.execution.engine import RunyardSchema


class TrustedDocumentsUnusable(Exception):
    """What the setting names is no folder or manifest of documents."""


class DocumentRefused(Exception):
    """The request names no document that may be run."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.extensions = {"code": code, "argument": "documentId"}


@dataclass(frozen=True, slots=True)
class TrustedDocuments:
    """The documents by their ids."""

    by_id: Mapping[str, str] = field(default_factory=dict[str, str])
    only: bool = False
    """Whether nothing else is served."""

    @classmethod
    def read(cls, path: Path | None, *, only: bool) -> "TrustedDocuments":
        """The documents of a folder or manifest; none without a path. TrustedDocumentsUnusable where it can not be read."""
        if path is None:
            if only:
                raise TrustedDocumentsUnusable("RUNYARD_TRUSTED_DOCUMENTS has to name them where only they are served.")
            return cls()
        try:
            documents = _in_folder(path) if path.is_dir() else _in_manifest(path)
        except (OSError, ValueError) as error:
            raise TrustedDocumentsUnusable(f"RUNYARD_TRUSTED_DOCUMENTS: {path} can not be read: {error}") from None
        by_id: dict[str, str] = {}
        for text in documents.values():
            digest = hashlib.sha256(text.encode()).hexdigest()
            by_id |= {digest: text, f"sha256:{digest}": text}
        return cls(documents | by_id, only)

    def check(self, schema: RunyardSchema) -> None:
        """Have the schema keep them. TrustedDocumentsUnusable where one of them could not be run."""
        for id, text in self.by_id.items():
            for error in schema.documents.keep(text).errors:
                raise TrustedDocumentsUnusable(f"RUNYARD_TRUSTED_DOCUMENTS: {id}: {error.message}")

    def query(self, parameters: Mapping[str, Any]) -> object:
        """The document that a request asks for, by its id or by itself. DocumentRefused where it may not be run."""
        id, query = parameters.get("documentId"), parameters.get("query")
        if id is None:
            if self.only:
                raise DocumentRefused("FORBIDDEN", "Only trusted documents are run here: name one with documentId.")
            return query
        # Some clients can not leave the query out.
        if query is not None and query != "":
            raise DocumentRefused("BAD_USER_INPUT", "Send a query or a documentId, not both.")
        if not isinstance(id, str):
            raise DocumentRefused("BAD_USER_INPUT", "documentId has to be a text.")
        if id not in self.by_id:
            raise DocumentRefused("BAD_USER_INPUT", f"There is no trusted document {id!r:.100}.")
        return self.by_id[id]


def _in_folder(path: Path) -> dict[str, str]:
    documents: dict[str, str] = {}
    for file in sorted(path.rglob("*.graphql")):
        if file.stem in documents:
            raise ValueError(f"two documents are named {file.stem}")
        documents[file.stem] = file.read_text("utf-8")
    if not documents:
        raise ValueError("it has no .graphql files")
    return documents


def _in_manifest(path: Path) -> dict[str, str]:
    manifest = orjson.loads(path.read_bytes())
    if not isinstance(manifest, dict):
        raise ValueError("it is no JSON object of ids and documents")
    documents = cast("dict[str, Any]", manifest)
    if not all(isinstance(text, str) for text in documents.values()):
        raise ValueError("it is no JSON object of ids and documents")
    return documents
