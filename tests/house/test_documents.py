"""The documents in `queries/`: one valid operation per file, with valid examples, used by a test."""

import json
import re
from pathlib import Path

import pytest
from graphql import NonNullTypeNode, OperationDefinitionNode, parse, validate
from graphql.execution.values import get_variable_values

import queries
from schema.root import build_schema

FOLDER = Path(queries.__file__).parent
TESTS = Path(__file__).parent.parent
DOCUMENTS = {path.stem: path for path in sorted(FOLDER.rglob("*.graphql"))}
EXAMPLES = {path.stem: path for path in sorted(FOLDER.rglob("*.json"))}


def operation_of(path: Path) -> OperationDefinitionNode:
    """Return the only operation of the document."""
    definitions = parse(path.read_text("utf-8")).definitions
    (operation,) = (each for each in definitions if isinstance(each, OperationDefinitionNode))
    return operation


def test_the_documents_are_found() -> None:
    assert {"CreateTaskRun", "ScheduledTaskRuns", "SetTaskRunState", "ListTaskRuns"} <= set(DOCUMENTS)
    assert "CreateTaskRun" in EXAMPLES


def test_document_names_are_unique() -> None:
    assert len(list(FOLDER.rglob("*.graphql"))) == len(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_one_operation_named_like_its_file(name: str) -> None:
    operation = operation_of(DOCUMENTS[name])

    assert operation.name is not None
    assert operation.name.value == name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_starts_with_its_purpose(name: str) -> None:
    first = DOCUMENTS[name].read_text("utf-8").splitlines()[0]

    assert re.fullmatch(r"# [A-Z].*\.", first)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_valid(name: str) -> None:
    document = parse(DOCUMENTS[name].read_text("utf-8"))

    assert validate(build_schema()._schema, document) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_with_required_variables_has_an_example(name: str) -> None:
    definitions = operation_of(DOCUMENTS[name]).variable_definitions or ()
    required = [each for each in definitions if isinstance(each.type, NonNullTypeNode)]

    assert not required or name in EXAMPLES


def test_the_folders_are_those_of_all_documents() -> None:
    in_folders = [name for folder in queries.FOLDERS for name in queries.in_folder(folder)]

    assert sorted(in_folders) == sorted(DOCUMENTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid_for_its_document(name: str) -> None:
    document = EXAMPLES[name].with_suffix(".graphql")
    variables = json.loads(EXAMPLES[name].read_text("utf-8"))

    definitions = operation_of(document).variable_definitions or ()
    values = get_variable_values(build_schema()._schema, definitions, variables)

    assert not isinstance(values, list), values
    assert set(variables) <= {definition.variable.name.value for definition in definitions}


@pytest.mark.parametrize("name", queries.MAIN_JOB)
def test_a_document_of_the_main_workflow_is_returned_with_its_example(name: str) -> None:
    document, variables = queries.document(name)

    assert document == DOCUMENTS[name].read_text("utf-8")
    assert variables == EXAMPLES[name].read_text("utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_used_by_a_test(name: str) -> None:
    this = Path(__file__)
    texts = {path: path.read_text("utf-8") for path in TESTS.rglob("test_*.py") if path != this}

    assert [path.name for path, text in texts.items() if f'"{name}"' in text] != []
