"""JSON arguments: limits on integers and depth, which are the same for variables and literals."""

import json
from typing import Any

import orjson
import pytest

from tests.builders.api_runs import count_task_runs
from tests.client import Client
from tests.serving import SQLITE_ONLY

pytestmark = SQLITE_ONLY

CREATE = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { taskRun { parameters } } }"
CREATE_ALL = "mutation M($inputs: [TaskRunCreateInput!]!) { createTaskRuns(inputs: $inputs) { results { created } } }"
SET_STATE = """mutation M($id: ID!, $state: StateInput!) {
  setTaskRunState(id: $id, state: $state) { state { data } }
}"""
CREATE_FLOW_RUN = "mutation M($input: FlowRunCreateInput!) { createFlowRun(input: $input) { created } }"

TOO_DEEP = "must have at most 252 levels of nested lists and objects."


async def post(client: Client, query: str, variables: str = "{}") -> Any:
    """Send variables as JSON text, because Python's client does not write every number."""
    body = f'{{"query": {orjson.dumps(query).decode()}, "variables": {variables}}}'
    response = await client.http.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    return json.loads(response.text)


def with_parameters(parameters: str) -> str:
    return f'{{"input": {{"taskKey": "t", "parameters": {parameters}}}}}'


def nested(depth: int) -> str:
    """Write lists and objects in each other, `depth` levels of both together."""
    return '[{"a": ' * (depth // 2) + "[]" * (depth % 2) + "0" * (1 - depth % 2) + "}]" * (depth // 2)


def refusal(response: Any) -> tuple[str, Any]:
    """Return the message and the extensions of the only error."""
    (error,) = response["errors"]
    return error["message"], error["extensions"]


def expected(argument: str, message: str) -> tuple[str, Any]:
    return f"{argument}: {message}", {"code": "BAD_USER_INPUT", "argument": argument}


@pytest.mark.parametrize(
    "integer", ["18446744073709551616", "-9223372036854775809", "340282366920938463463374607431768211455"]
)
async def test_an_integer_beyond_64_bits_is_refused_in_variables_and_literals(client: Client, integer: str) -> None:
    message = expected("input.parameters", "must not contain integers beyond 64 bits. Send them as strings.")
    literal = f'mutation {{ createTaskRun(input: {{taskKey: "t", parameters: {{a: [{integer}]}}}}) {{ created }} }}'

    in_variables = await post(client, CREATE, with_parameters(f'{{"a": [{integer}]}}'))
    in_literal = await post(client, literal)
    async with client.socket() as socket:
        subscribe = '{"id": "1", "type": "subscribe", "payload": {"query": "%s", "variables": %s}}'
        await socket.connection.send(subscribe % (CREATE, with_parameters(integer)))
        over_socket = (await socket.receive())["payload"]

    assert [refusal(each) for each in (in_variables, in_literal, over_socket)] == [message] * 3
    assert await count_task_runs(client) == 0


async def test_integers_of_64_bits_and_long_numbers_of_other_kinds_are_returned_as_sent(client: Client) -> None:
    sent = (
        '{"a":[18446744073709551615,-9223372036854775808,1767225600000000000,0.5],'
        '"18446744073709551616":"-9223372036854775809"}'
    )

    response = await post(client, CREATE, with_parameters(sent))

    # Python compares integers exactly, and Python's parser keeps all their digits.
    assert response["data"]["createTaskRun"]["taskRun"]["parameters"] == json.loads(sent)


async def test_floating_point_numbers_beyond_64_bits_are_accepted(client: Client) -> None:
    response = await post(client, CREATE, with_parameters("[1e20, 18446744073709551616.0, -1.5E300]"))

    parameters = response["data"]["createTaskRun"]["taskRun"]["parameters"]
    assert parameters == [1e20, 18446744073709551616.0, -1.5e300]


@pytest.mark.parametrize(
    ("query", "argument", "message"),
    [
        ("query Q($value: ID!) { taskRun(id: $value) { id } }", "id", "must be a UUID; got '18446744073709551616'."),
        (
            'mutation M($value: Float!) { claimTaskRuns(taskKeys: ["t"], leaseSeconds: $value) { deliveries { leaseId } } }',
            "leaseSeconds",
            "must be between 1 and 86,400 seconds; got 1.84467e+19.",
        ),
    ],
    ids=["ID", "Float"],
)
async def test_a_long_integer_of_another_type_is_treated_as_in_a_literal(
    client: Client, query: str, argument: str, message: str
) -> None:
    definition, _, selection = query.partition("{")
    literal = f"{definition.split()[0]} {{{selection.replace('$value', '18446744073709551616')}"

    in_variables = await post(client, query, '{"value": 18446744073709551616}')
    in_literal = await post(client, literal)

    assert refusal(in_variables) == refusal(in_literal) == expected(argument, message)


async def test_a_long_integer_in_the_variables_of_a_get_keeps_its_digits(client: Client) -> None:
    query = "query Q($id: ID!) { taskRun(id: $id) { id } }"

    response = await client.http.get("/graphql", params={"query": query, "variables": '{"id": 18446744073709551616}'})

    assert refusal(response.json()) == expected("id", "must be a UUID; got '18446744073709551616'.")


async def test_an_integer_variable_beyond_32_bits_is_refused_with_all_its_digits(client: Client) -> None:
    response = await post(
        client, "query Q($n: Int) { taskRuns(first: $n) { totalCount } }", '{"n": 18446744073709551616}'
    )

    assert refusal(response) == (
        "Variable '$n' has invalid value: Int cannot represent non 32-bit signed integer value: 18446744073709551616",
        {"code": "BAD_USER_INPUT"},
    )


async def test_json_of_252_levels_is_accepted_wherever_it_is_sent(client: Client) -> None:
    run = await client.execute("CreateTaskRun", input={"taskKey": "t"})
    id = run["taskRun"]["id"]

    created = await post(client, CREATE, with_parameters(nested(252)))
    created_all = await post(client, CREATE_ALL, f'{{"inputs": [{with_parameters(nested(252))[10:-1]}]}}')
    state = f'{{"id": "{id}", "state": {{"type": "RUNNING", "data": {nested(252)}}}}}'
    with_data = await post(client, SET_STATE, state)

    assert created["data"]["createTaskRun"]["taskRun"]["parameters"] == orjson.loads(nested(252))
    assert created_all == {"data": {"createTaskRuns": {"results": [{"created": True}]}}}
    assert with_data["data"]["setTaskRunState"]["state"]["data"] == orjson.loads(nested(252))


@pytest.mark.parametrize("depth", [253, 254, 900])
async def test_deeper_json_is_refused_naming_argument_and_limit(client: Client, depth: int) -> None:
    deep = nested(depth)
    state = f'{{"id": "00000000-0000-0000-0000-000000000000", "state": {{"type": "RUNNING", "data": {deep}}}}}'
    flow_run = f'{{"input": {{"flowId": "00000000-0000-0000-0000-000000000000", "context": {{"a": {deep}}}}}}}'

    refusals = [
        refusal(await post(client, CREATE, with_parameters(deep))),
        refusal(await post(client, CREATE_ALL, f'{{"inputs": [{with_parameters(deep)[10:-1]}]}}')),
        refusal(await post(client, SET_STATE, state)),
        refusal(await post(client, CREATE_FLOW_RUN, flow_run)),
    ]

    arguments = ["input.parameters", "inputs.0.parameters", "state.data", "input.context"]
    assert refusals == [expected(argument, TOO_DEEP) for argument in arguments]
    assert await count_task_runs(client) == 0


async def test_deep_variables_of_other_types_are_refused_by_their_types(client: Client) -> None:
    lists = "[" * 900 + "]" * 900
    filter = '{"not": ' * 900 + "{}" + "}" * 900

    tags = await post(client, CREATE, f'{{"input": {{"taskKey": "t", "tags": {lists}}}}}')
    deep_filter = await post(client, "query Q($f: TaskRunFilter) { taskRunCount(filter: $f) }", f'{{"f": {filter}}}')

    assert refusal(tags)[1] == {"code": "BAD_USER_INPUT"}
    path = "filter" + ".not" * 11
    assert refusal(deep_filter) == expected(path, "exceeds the maximum filter depth of 10. Use fewer nested filters.")


async def test_a_nul_below_deep_json_is_found(client: Client) -> None:
    deep = "[" * 900 + '"\\u0000"' + "]" * 900

    message, extensions = refusal(await post(client, CREATE, with_parameters(deep)))

    assert message.endswith(".0: must not contain the NUL character (U+0000).")
    assert extensions["argument"] == "input.parameters" + ".0" * 900


async def test_a_body_nested_beyond_the_parser_with_a_long_integer_is_refused(client: Client) -> None:
    deep = "[" * 1000 + "18446744073709551616" + "]" * 1000

    assert refusal(await post(client, CREATE, with_parameters(deep))) == (
        "The body is not valid JSON: depth limit exceeded: line 1 column 1 (char 0).",
        {"code": "BAD_USER_INPUT"},
    )
