"""Introspection of the schema."""

from tests.client import Client
from tests.serving import SQLITE_ONLY

pytestmark = SQLITE_ONLY

ARGUMENT_TYPES = (
    """{ __type(name: "Query") { fields { name args { name type { kind isOneOf ofType { kind isOneOf } } } } } }"""
)


async def test_is_one_of_is_false_for_input_objects_and_null_otherwise(client: Client) -> None:
    result = (await client.http.post("/graphql", json={"query": ARGUMENT_TYPES})).json()

    fields = {field["name"]: field["args"] for field in result["data"]["__type"]["fields"]}
    nodes, runs = fields["nodes"], {argument["name"]: argument["type"] for argument in fields["taskRuns"]}
    assert nodes == [
        {
            "name": "ids",
            "type": {"kind": "NON_NULL", "isOneOf": None, "ofType": {"kind": "LIST", "isOneOf": None}},
        }
    ]
    assert runs["filter"] == {"kind": "INPUT_OBJECT", "isOneOf": False, "ofType": None}
    assert runs["sort"] == {
        "kind": "NON_NULL",
        "isOneOf": None,
        "ofType": {"kind": "ENUM", "isOneOf": None},
    }
