"""The documents of the client, and what is generated from them."""

import json

import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate

import generate_contract
from runyard_client.contract import document

DOCUMENTS = generate_contract.read_documents()
SCHEMA = build_schema(generate_contract.SCHEMA_FILE.read_text("utf-8"))


@pytest.mark.parametrize("operation", DOCUMENTS)
def test_the_servers_schema_accepts_the_document(operation: str) -> None:
    assert validate(SCHEMA, parse(document(operation))) == []


@pytest.mark.parametrize("operation", DOCUMENTS)
def test_the_document_has_one_operation_of_its_own_name_with_one_root_field(operation: str) -> None:
    (found,) = [node for node in parse(document(operation)).definitions if isinstance(node, OperationDefinitionNode)]

    assert found.name is not None
    assert found.name.value == operation
    assert len(found.selection_set.selections) == 1


def test_the_types_of_the_results_are_up_to_date() -> None:
    assert (generate_contract.CONTRACT / "operations.py").read_text("utf-8") == generate_contract.answer_types(
        SCHEMA, DOCUMENTS
    )


def test_the_manifest_of_trusted_documents_is_up_to_date() -> None:
    text = (generate_contract.CONTRACT / "persisted-documents.json").read_text("utf-8")

    assert text == generate_contract.manifest(DOCUMENTS)
    assert json.loads(text) == {operation: document(operation) for operation in DOCUMENTS}


def test_an_invalid_document_is_named_by_the_generator() -> None:
    documents = {"Broken": "query Broken { server { nothing } }"}

    with pytest.raises(generate_contract.InvalidDocuments, match=r"^Broken\.graphql: Cannot query field 'nothing'"):
        generate_contract.answer_types(SCHEMA, documents)


def test_an_unknown_operation_has_no_document() -> None:
    with pytest.raises(FileNotFoundError):
        document("Unknown")
