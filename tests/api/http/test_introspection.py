"""What the schema tells of itself."""

import pytest

from tests.client import Client

ARGUMENT_TYPES = (
    """{ __type(name: "Query") { fields { name args { name type { kind isOneOf ofType { kind isOneOf } } } } } }"""
)


@pytest.fixture
def database_kind() -> str:
    """One kind alone: none of this is in the database."""
    return "sqlite"


async def test_types_of_every_kind_tell_whether_they_are_one_of_their_fields(client: Client) -> None:
    answer = (await client.http.post("/graphql", json={"query": ARGUMENT_TYPES})).json()

    fields = {field["name"]: field["args"] for field in answer["data"]["__type"]["fields"]}
    nodes, runs = fields["nodes"], {argument["name"]: argument["type"] for argument in fields["taskRuns"]}
    assert nodes == [
        {
            "name": "ids",
            "type": {"kind": "NON_NULL", "isOneOf": None, "ofType": {"kind": "LIST", "isOneOf": None}},
        }
    ]
    assert runs["filter"] == {"kind": "INPUT_OBJECT", "isOneOf": False, "ofType": None}
    assert runs["sort"] == {"kind": "ENUM", "isOneOf": None, "ofType": None}
