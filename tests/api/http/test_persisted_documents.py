"""Trusted documents: executed by id, and optionally the only documents that a server executes."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import queries
from queries import document
from runyard.persisted_documents import TrustedDocuments, TrustedDocumentsUnusable
from schema.root import build_schema
from tests.client import Client
from tests.command import runyard
from tests.serving import SQLITE_ONLY, run_server

pytestmark = SQLITE_ONLY

FOLDER = Path(queries.__file__).parent
TYPENAME = "query Typename { __typename }"
DIGEST = hashlib.sha256(TYPENAME.encode()).hexdigest()
RESULT = {"data": {"__typename": "Query"}}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Write a manifest in the format of graphql-codegen."""
    path = tmp_path / "persisted-documents.json"
    path.write_bytes(orjson.dumps({"typename-1": TYPENAME}))
    return path


@pytest.fixture
async def trusting_client(tmp_path: Path, manifest: Path) -> AsyncIterator[Client]:
    async with run_server(tmp_path, trusted_documents=manifest) as server:
        yield server.client


@pytest.fixture
async def strict_client(tmp_path: Path, manifest: Path) -> AsyncIterator[Client]:
    async with run_server(tmp_path, trusted_documents=manifest, only_trusted_documents=True) as server:
        yield server.client


async def post(client: Client, **body: Any) -> tuple[int, Any]:
    response = await client.http.post("/graphql", json=body)
    return response.status_code, response.json()


def refusal(code: str, message: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": code, "argument": "documentId"}}]}


@pytest.mark.parametrize("id", ["typename-1", DIGEST, f"sha256:{DIGEST}"])
async def test_a_document_in_a_manifest_is_executed_by_id_or_digest(trusting_client: Client, id: str) -> None:
    assert await post(trusting_client, documentId=id) == (200, RESULT)
    assert await post(trusting_client, documentId=id, query="") == (200, RESULT)

    by_get = await trusting_client.http.get("/graphql", params={"documentId": id})
    assert by_get.json() == RESULT


async def test_a_document_in_a_folder_is_executed_by_name_or_digest(tmp_path: Path) -> None:
    digest = hashlib.sha256(document("CreateTaskRun")[0].encode()).hexdigest()
    async with run_server(tmp_path, trusted_documents=FOLDER) as server:
        for id in ("CreateTaskRun", f"sha256:{digest}"):
            variables = {"input": {"taskKey": "t", "dynamicKey": id}}
            status, result = await post(server.client, documentId=id, variables=variables)

            assert (status, result["data"]["createTaskRun"]["created"]) == (200, True)


async def test_a_document_is_executed_by_id_over_a_socket(strict_client: Client) -> None:
    async with strict_client.socket() as socket:
        for id, payload in enumerate([{"documentId": DIGEST}, {"documentId": DIGEST, "query": ""}]):
            await socket.send({"id": str(id), "type": "subscribe", "payload": payload})

            assert await socket.receive() == {"id": str(id), "type": "next", "payload": RESULT}
            assert await socket.receive() == {"id": str(id), "type": "complete"}


async def test_an_unknown_document_id_is_refused(trusting_client: Client) -> None:
    expected = refusal("BAD_USER_INPUT", "No trusted document has the id 'nothing'.")

    assert await post(trusting_client, documentId="nothing") == (400, expected)


async def test_a_document_id_together_with_a_query_is_refused(trusting_client: Client) -> None:
    expected = refusal("BAD_USER_INPUT", "Send a query or a documentId, not both.")

    assert await post(trusting_client, documentId=DIGEST, query=TYPENAME) == (400, expected)


async def test_a_document_id_that_is_not_a_string_is_refused(trusting_client: Client) -> None:
    assert await post(trusting_client, documentId=5) == (400, refusal("BAD_USER_INPUT", "documentId must be a string."))


def persisted_query(digest: object) -> dict[str, Any]:
    """Return the parameters of a request by hash, as clients of automatic persisted queries send them."""
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}}


NOT_SUPPORTED = {
    "errors": [{"message": "PersistedQueryNotSupported", "extensions": {"code": "PERSISTED_QUERY_NOT_SUPPORTED"}}]
}
"""The response after which clients send the document, and no more hashes."""


async def test_a_trusted_document_is_executed_by_the_hash_of_a_persisted_query(
    trusting_client: Client, strict_client: Client
) -> None:
    for client in (trusting_client, strict_client):
        extensions = orjson.dumps(persisted_query(DIGEST)["extensions"]).decode()
        by_get = await client.http.get("/graphql", params={"extensions": extensions})
        async with client.socket() as socket:
            await socket.send({"id": "1", "type": "subscribe", "payload": persisted_query(DIGEST)})
            message = await socket.receive()

        assert await post(client, **persisted_query(DIGEST)) == (200, RESULT)
        assert await post(client, query="", **persisted_query(DIGEST)) == (200, RESULT)
        assert by_get.json() == RESULT
        assert message == {"id": "1", "type": "next", "payload": RESULT}


@pytest.mark.parametrize("digest", ["0" * 64, 5, None])
async def test_an_unknown_hash_of_a_persisted_query_is_refused_with_200(
    client: Client, trusting_client: Client, strict_client: Client, digest: object
) -> None:
    for each in (client, trusting_client, strict_client):
        extensions = orjson.dumps(persisted_query(digest)["extensions"]).decode()
        by_get = await each.http.get("/graphql", params={"extensions": extensions})

        assert await post(each, **persisted_query(digest)) == (200, NOT_SUPPORTED)
        assert (by_get.status_code, by_get.json()) == (200, NOT_SUPPORTED)


async def test_an_unknown_hash_over_a_socket_fails_only_its_own_operation(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": persisted_query("0" * 64)})
        error = await socket.receive()
        await socket.send({"id": "2", "type": "subscribe", "payload": {"query": TYPENAME}})

        assert (await socket.receive())["payload"] == RESULT
    assert error == {"id": "1", "type": "error", "payload": NOT_SUPPORTED["errors"]}


async def test_a_document_sent_with_a_hash_is_executed_unless_others_are_refused(
    client: Client, strict_client: Client
) -> None:
    for digest in (DIGEST, "0" * 64):
        assert await post(client, query=TYPENAME, **persisted_query(digest)) == (200, RESULT)

    assert await post(strict_client, query=TYPENAME, **persisted_query(DIGEST)) == (
        403,
        refusal("FORBIDDEN", ONLY_TRUSTED),
    )


async def test_other_documents_are_executed_by_default(trusting_client: Client) -> None:
    assert await post(trusting_client, query="{ __typename }") == (200, RESULT)


ONLY_TRUSTED = "This server executes only trusted documents. Send the id of one as documentId."


async def test_a_server_may_execute_only_trusted_documents(strict_client: Client) -> None:
    create = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'

    for query in (create, TYPENAME):
        assert await post(strict_client, query=query) == (403, refusal("FORBIDDEN", ONLY_TRUSTED))
    assert await post(strict_client, documentId=DIGEST) == (200, RESULT)


async def test_an_untrusted_document_over_a_socket_fails_only_its_own_operation(strict_client: Client) -> None:
    async with strict_client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": "{ __typename }"}})
        error = await socket.receive()
        await socket.send({"id": "2", "type": "subscribe", "payload": {"documentId": DIGEST}})

        assert (await socket.receive())["payload"] == RESULT
    assert error == {"id": "1", "type": "error", "payload": refusal("FORBIDDEN", ONLY_TRUSTED)["errors"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "documents.json cannot be read: it is not a JSON object that maps ids to documents"),
        ('{"a": 5}', "documents.json cannot be read: it is not a JSON object that maps ids to documents"),
        ("{", "documents.json cannot be read: unexpected end of data"),
        ('{"a": "{ nothing }"}', "a: Cannot query field 'nothing' on type 'Query'."),
        (None, "documents.json cannot be read: [Errno 2] No such file"),
    ],
)
def test_unusable_trusted_documents_are_reported_with_the_reason(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "documents.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(TrustedDocumentsUnusable) as refused:
        TrustedDocuments.load(path, is_exclusive=False).pin(build_schema())

    message = str(refused.value)
    assert message.startswith("RUNYARD_TRUSTED_DOCUMENTS: ")
    assert reason in message


def test_an_empty_folder_and_duplicate_document_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrustedDocumentsUnusable, match=r"the folder contains no \.graphql files"):
        TrustedDocuments.load(tmp_path, is_exclusive=False)

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Same.graphql").write_text(TYPENAME)
    with pytest.raises(TrustedDocumentsUnusable, match="two documents are named Same"):
        TrustedDocuments.load(tmp_path, is_exclusive=False)


def test_a_server_limited_to_trusted_documents_does_not_start_without_any(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    refused = runyard("serve", folder=tmp_path, RUNYARD_ONLY_TRUSTED_DOCUMENTS="true", RUNYARD_DATABASE_URL=url)

    assert refused.returncode == 1
    assert "runyard: RUNYARD_ONLY_TRUSTED_DOCUMENTS requires RUNYARD_TRUSTED_DOCUMENTS." in refused.stderr
    assert "Traceback" not in refused.stderr


def test_trusted_documents_are_never_evicted_from_the_cache(manifest: Path) -> None:
    schema = build_schema()
    TrustedDocuments.load(manifest, is_exclusive=False).pin(schema)
    prepared = schema.documents.get(TYPENAME)

    for number in range(600):
        schema.documents.get(f"query Other{number} {{ __typename }}")

    assert schema.documents.get(TYPENAME) is prepared
