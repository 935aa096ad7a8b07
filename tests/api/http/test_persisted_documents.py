"""Documents that are run by their ids, and servers that run no others."""

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
from tests.house.test_command import runyard
from tests.serving import serving

FOLDER = Path(queries.__file__).parent
TYPENAME = "query Typename { __typename }"
DIGEST = hashlib.sha256(TYPENAME.encode()).hexdigest()
ANSWER = {"data": {"__typename": "Query"}}


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """As graphql-codegen writes it."""
    path = tmp_path / "persisted-documents.json"
    path.write_bytes(orjson.dumps({"typename-1": TYPENAME}))
    return path


@pytest.fixture
async def trusting(tmp_path: Path, manifest: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path, trusted_documents=manifest) as served:
        yield served.client


@pytest.fixture
async def strict(tmp_path: Path, manifest: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path, trusted_documents=manifest, only_trusted_documents=True) as served:
        yield served.client


async def post(client: Client, **body: Any) -> tuple[int, Any]:
    response = await client.http.post("/graphql", json=body)
    return response.status_code, response.json()


def refusal(code: str, message: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": code, "argument": "documentId"}}]}


@pytest.mark.parametrize("id", ["typename-1", DIGEST, f"sha256:{DIGEST}"])
async def test_a_document_of_a_manifest_is_run_by_its_id_or_digest(trusting: Client, id: str) -> None:
    assert await post(trusting, documentId=id) == (200, ANSWER)
    assert await post(trusting, documentId=id, query="") == (200, ANSWER)

    by_get = await trusting.http.get("/graphql", params={"documentId": id})
    assert by_get.json() == ANSWER


async def test_a_document_of_a_folder_is_run_by_its_name_or_digest(tmp_path: Path) -> None:
    digest = hashlib.sha256(document("CreateTaskRun")[0].encode()).hexdigest()
    async with serving(tmp_path, trusted_documents=FOLDER) as served:
        for id in ("CreateTaskRun", f"sha256:{digest}"):
            variables = {"input": {"taskKey": "t", "dynamicKey": id}}
            status, answer = await post(served.client, documentId=id, variables=variables)

            assert (status, answer["data"]["createTaskRun"]["created"]) == (200, True)


async def test_a_document_is_run_by_its_id_over_a_socket(strict: Client) -> None:
    async with strict.socket() as socket:
        for id, payload in enumerate([{"documentId": DIGEST}, {"documentId": DIGEST, "query": ""}]):
            await socket.send({"id": str(id), "type": "subscribe", "payload": payload})

            assert await socket.receive() == {"id": str(id), "type": "next", "payload": ANSWER}
            assert await socket.receive() == {"id": str(id), "type": "complete"}


async def test_an_id_that_no_document_has_is_refused(trusting: Client) -> None:
    expected = refusal("BAD_USER_INPUT", "There is no trusted document 'nothing'.")

    assert await post(trusting, documentId="nothing") == (400, expected)


async def test_an_id_beside_a_query_is_refused(trusting: Client) -> None:
    expected = refusal("BAD_USER_INPUT", "Send a query or a documentId, not both.")

    assert await post(trusting, documentId=DIGEST, query=TYPENAME) == (400, expected)


async def test_an_id_that_is_no_text_is_refused(trusting: Client) -> None:
    assert await post(trusting, documentId=5) == (400, refusal("BAD_USER_INPUT", "documentId has to be a text."))


async def test_a_server_that_trusts_documents_runs_others_too(trusting: Client) -> None:
    assert await post(trusting, query="{ __typename }") == (200, ANSWER)


ONLY = "Only trusted documents are run here: name one with documentId."


async def test_a_server_may_run_trusted_documents_alone(strict: Client) -> None:
    create = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'

    for query in (create, TYPENAME):
        assert await post(strict, query=query) == (403, refusal("FORBIDDEN", ONLY))
    assert await post(strict, documentId=DIGEST) == (200, ANSWER)


async def test_another_document_over_a_socket_ends_its_own_operation(strict: Client) -> None:
    async with strict.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": "{ __typename }"}})
        error = await socket.receive()
        await socket.send({"id": "2", "type": "subscribe", "payload": {"documentId": DIGEST}})

        assert (await socket.receive())["payload"] == ANSWER
    assert error == {"id": "1", "type": "error", "payload": refusal("FORBIDDEN", ONLY)["errors"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "documents.json can not be read: it is no JSON object of ids and documents"),
        ('{"a": 5}', "documents.json can not be read: it is no JSON object of ids and documents"),
        ("{", "documents.json can not be read: unexpected end of data"),
        ('{"a": "{ nothing }"}', "a: Cannot query field 'nothing' on type 'Query'."),
        (None, "documents.json can not be read: [Errno 2] No such file"),
    ],
)
def test_what_can_not_be_trusted_is_told(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "documents.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(TrustedDocumentsUnusable) as refused:
        TrustedDocuments.read(path, only=False).check(build_schema())

    message = str(refused.value)
    assert message.startswith("RUNYARD_TRUSTED_DOCUMENTS: ")
    assert reason in message


def test_a_folder_without_documents_and_one_with_two_of_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrustedDocumentsUnusable, match=r"it has no \.graphql files"):
        TrustedDocuments.read(tmp_path, only=False)

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Same.graphql").write_text(TYPENAME)
    with pytest.raises(TrustedDocumentsUnusable, match="two documents are named Same"):
        TrustedDocuments.read(tmp_path, only=False)


def test_a_server_that_is_to_run_only_trusted_documents_does_not_start_without_any(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    refused = runyard("serve", folder=tmp_path, RUNYARD_ONLY_TRUSTED_DOCUMENTS="true", RUNYARD_DATABASE_URL=url)

    assert refused.returncode == 1
    assert "runyard: RUNYARD_TRUSTED_DOCUMENTS has to name them where only they are served." in refused.stderr
    assert "Traceback" not in refused.stderr


def test_trusted_documents_stay_prepared_whatever_else_is_asked(manifest: Path) -> None:
    schema = build_schema()
    TrustedDocuments.read(manifest, only=False).check(schema)
    prepared = schema.documents.of(TYPENAME)

    for number in range(600):
        schema.documents.of(f"query Other{number} {{ __typename }}")

    assert schema.documents.of(TYPENAME) is prepared
