"""Requests that are cheap to send and would be expensive for a server without limits."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.hostile.heavy_documents import HEAVY_DOCUMENTS

FILTER = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
CREATE = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { created } }"
CREATE_MANY = "mutation M($inputs: [TaskRunCreateInput!]!) { createTaskRuns(inputs: $inputs) { results { created } } }"
SET_MANY = (
    "mutation M($inputs: [TaskRunStateChangeInput!]!) { setTaskRunStates(inputs: $inputs) { results { taskRunId } } }"
)


def _body(query: str, variables: Any = None) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


def _with_variables(query: str, raw: str) -> bytes:
    """Return a request body with raw variables that a JSON encoder would not write."""
    return b'{"query": ' + json.dumps(query).encode() + b', "variables": ' + raw.encode() + b"}"


def _fragments(levels: int, width: int) -> str:
    spread = [f"fragment F{n} on TaskRun {{ {f'...F{n + 1} ' * width} }}" for n in range(levels)]
    return f"{{ taskRuns {{ nodes {{ ...F0 }} }} }} {' '.join(spread)} fragment F{levels} on TaskRun {{ id }}"


def _create_body(raw: str, key: str = '"a"') -> bytes:
    """Return a request that creates a task run with these raw parameters.

    A `key` that is not a string is refused, but only after the parameters are parsed.
    """
    return _with_variables(CREATE, f'{{"input": {{"taskKey": {key}, "parameters": {raw}}}}}')


def _sixteen_inputs() -> bytes:
    """Return a request with sixteen inputs, each with many tags but within the limit of one."""
    names = [f"a{number}" for number in range(16)]
    definitions = " ".join(f"${name}: TaskRunCreateInput!" for name in names)
    fields = " ".join(f"{name}: createTaskRun(input: ${name}) {{ created }}" for name in names)
    variables = {name: {"taskKey": "a", "tags": ["a"] * 24_000} for name in names}
    return _body(f"mutation M({definitions}) {{ {fields} }}", variables)


def _nested_filter(depth: int) -> Any:
    filter: Any = {}
    for _ in range(depth):
        filter = {"not": filter}
    return filter


_HEAVIEST = [
    "misspelled input fields",
    "misspelled types",
    "type definitions in the document",
    "duplicate arguments",
    "a large value of a wrong type",
    "misspelled enum values",
]
"""The most expensive document of each kind in `HEAVY_DOCUMENTS`."""

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "deep fragments": (lambda: _body(_fragments(64, 2)), "QUERY_TOO_COMPLEX"),
    "wide fragments": (lambda: _body(_fragments(8, 100)), "QUERY_TOO_COMPLEX"),
    "cyclic fragments": (
        lambda: _body("{ taskRuns { nodes { ...A } } } fragment A on TaskRun { ...B } fragment B on TaskRun { ...A }"),
        "BAD_USER_INPUT",
    ),
    "aliases": (
        lambda: _body("{ " + " ".join(f"a{n}: __typename" for n in range(20_000)) + " }"),
        "QUERY_TOO_COMPLEX",
    ),
    "directives": (lambda: _body("{ __typename " + "@skip(if: false) " * 1000 + "}"), "QUERY_TOO_COMPLEX"),
    "short directives": (lambda: _body("{ __typename " + "@a " * 900 + "}"), "QUERY_TOO_COMPLEX"),
    "operations": (lambda: _body(" ".join(f"query Q{n} {{ __typename }}" for n in range(5000))), "QUERY_TOO_COMPLEX"),
    "fewer operations": (lambda: _body(" ".join(f"query Q{n} {{ a }}" for n in range(390))), "BAD_USER_INPUT"),
    "braces": (lambda: _body("{" * 100_000), "BAD_USER_INPUT"),
    "fewer braces": (lambda: _body("{a" * 900), "BAD_USER_INPUT"),
    "brackets": (lambda: _body("{ taskRun(id: " + "[" * 1900 + ") }"), "BAD_USER_INPUT"),
    "a deep filter": (
        lambda: _body("{ taskRunCount(filter: " + "{not: " * 190 + "{}" + "}" * 190 + ") }"),
        "BAD_USER_INPUT",
    ),
    "a deep filter in a variable": (lambda: _body(FILTER, {"filter": _nested_filter(300)}), "BAD_USER_INPUT"),
    "a wide filter": (lambda: _body(FILTER, {"filter": {"or": [{}] * 200_000}}), "BAD_USER_INPUT"),
    "deep JSON": (
        lambda: _with_variables(
            CREATE, '{"input": {"taskKey": "a", "parameters": ' + "[" * 100_000 + "]" * 100_000 + "}}"
        ),
        "BAD_USER_INPUT",
    ),
    "deep JSON within the limit": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "parameters": ' + "[" * 200 + "]" * 200 + "}}"),
        "data",
    ),
    "deep objects": (lambda: _with_variables(CREATE, '{"a":' * 100_000 + "1" + "}" * 100_000), "BAD_USER_INPUT"),
    "unterminated JSON": (lambda: b"[" * 1_000_000, "BAD_USER_INPUT"),
    "a list of a million": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "tags": [' + "0," * 1_000_000 + "0]}}"),
        "BAD_USER_INPUT",
    ),
    "a million keys": (
        lambda: _with_variables(FILTER, '{"filter": {' + ",".join(f'"{n}":0' for n in range(250_000)) + "}}"),
        "BAD_USER_INPUT",
    ),
    "ids": (
        lambda: _body("query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["a"] * 500_000}),
        "BAD_USER_INPUT",
    ),
    "a long string": (lambda: _body(CREATE, {"input": {"taskKey": "a" * 3_900_000}}), "BAD_USER_INPUT"),
    "a long name": (lambda: _body("{ " + "a" * 3_900_000 + " }"), "QUERY_TOO_COMPLEX"),
    "a long comment": (lambda: _body("#" * 3_900_000), "QUERY_TOO_COMPLEX"),
    "spaces": (lambda: _body(" " * 3_900_000), "BAD_USER_INPUT"),
    "a long number": (
        lambda: _body("{ taskRuns(first: " + "1" * 1_000_000 + ") { nodes { id } } }"),
        "QUERY_TOO_COMPLEX",
    ),
    "1e400": (lambda: _body("{ taskRuns(first: 1e400) { nodes { id } } }"), "BAD_USER_INPUT"),
    "1e400 in JSON": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "parameters": 1e400}}'),
        "BAD_USER_INPUT",
    ),
    "2^70": (lambda: _body(f"{{ taskRuns(first: {2**70}) {{ nodes {{ id }} }} }}"), "BAD_USER_INPUT"),
    "a long number in JSON": (
        lambda: _with_variables(
            "query Q($n: Int) { taskRuns(first: $n) { nodes { id } } }", '{"n": ' + "9" * 1_000_000 + "}"
        ),
        "BAD_USER_INPUT",
    ),
    "a body above the limit": (lambda: b" " * (4 * 1024 * 1024 + 1), "BAD_USER_INPUT"),
    "empty lists": (lambda: _create_body("[" + "[]," * 1_350_000 + "0]", key="1"), "BAD_USER_INPUT"),
    "deep lists within the limit": (
        lambda: _create_body("[" + ("[" * 200 + "]" * 200 + ",") * 2490 + "0]"),
        "data",
    ),
    "deep lists": (lambda: _create_body("[" + ("[" * 900 + "]" * 900 + ",") * 2200 + "0]"), "BAD_USER_INPUT"),
    "lists in objects": (lambda: _create_body("[" + '{"":[]},' * 249_000 + "0]"), "data"),
    "lists in unused extensions": (
        lambda: b'{"query": "{ __typename }", "extensions": {"a": [' + b"[]," * 499_000 + b"0]}}",
        "data",
    ),
    "stored lists": (lambda: _create_body("[" + "[]," * 499_000 + "0," * 1_000_000 + "0]"), "data"),
    "stored numbers": (lambda: _create_body("[" + "0," * 2_000_000 + "0]"), "data"),
    "a stored string": (lambda: _create_body('"' + "a" * 4_000_000 + '"'), "data"),
    "stored objects": (
        lambda: _create_body("{" + ",".join(f'"{number}":0' for number in range(380_000)) + "}"),
        "data",
    ),
    "NULs": (lambda: _create_body("[" + ",".join(['"\\u0000"'] * 420_000) + "]"), "BAD_USER_INPUT"),
    "a NUL at the end": (lambda: _create_body("[" + "0," * 1_900_000 + '"\\u0000"]'), "BAD_USER_INPUT"),
    "a long integer at the end": (
        lambda: _create_body("[" + "0," * 1_900_000 + "18446744073709551616]"),
        "BAD_USER_INPUT",
    ),
    "long integers": (lambda: _create_body("[" + "18446744073709551616," * 190_000 + "0]"), "BAD_USER_INPUT"),
    "deep lists with a long integer": (
        lambda: _create_body("[" + ("[" * 200 + "]" * 200 + ",") * 2490 + "18446744073709551616]"),
        "BAD_USER_INPUT",
    ),
    "lists beyond the depth that is stored": (
        lambda: _create_body("[" + ("[" * 1000 + "]" * 1000 + ",") * 490 + "0]"),
        "BAD_USER_INPUT",
    ),
    "a NUL below deep lists": (
        lambda: _create_body("[" + ("[" * 1000 + "]" * 1000 + ",") * 490 + '"\\u0000"]'),
        "BAD_USER_INPUT",
    ),
    "sixteen inputs": (_sixteen_inputs, "BAD_USER_INPUT"),
    "many tags with an invalid last one": (
        lambda: _body(CREATE, {"input": {"taskKey": "a", "tags": ["a"] * 24_999 + [0]}}),
        "BAD_USER_INPUT",
    ),
    "invalid tags": (lambda: _body(CREATE, {"input": {"taskKey": "a", "tags": [0] * 25_000}}), "BAD_USER_INPUT"),
    "a thousand inputs with an invalid last one": (
        lambda: _body(CREATE_MANY, {"inputs": [{"taskKey": "a", "tags": ["a"] * 23}] * 999 + [{}]}),
        "BAD_USER_INPUT",
    ),
    "too many inputs": (
        lambda: _body(SET_MANY, {"inputs": [{"id": "a", "state": {"type": "RUNNING"}}] * 60_000}),
        "BAD_USER_INPUT",
    ),
    "misspelled filter fields": (
        lambda: _body(FILTER, {"filter": {f"expectedStartTim{number}": 0 for number in range(1900)}}),
        "BAD_USER_INPUT",
    ),
    "unknown fields beside a large one": (
        lambda: _body(
            CREATE,
            {"input": {"taskKey": "a", "parameters": "a" * 3_900_000, **{f"parameter{n}": 0 for n in range(10)}}},
        ),
        "BAD_USER_INPUT",
    ),
    "a field with a long name": (lambda: _body(FILTER, {"filter": {"a" * 3_900_000: 0}}), "BAD_USER_INPUT"),
    "a long enum value": (
        lambda: _body(
            "query Q($sort: TaskRunSort) { taskRuns(sort: $sort) { totalCount } }", {"sort": "A" * 3_900_000}
        ),
        "BAD_USER_INPUT",
    ),
    "long enum values": (
        lambda: _body(FILTER, {"filter": {"state": {"type": {"in": ["A" * 78_000 + f"{n}" for n in range(49)]}}}}),
        "BAD_USER_INPUT",
    ),
    "a long timestamp": (
        lambda: _body(FILTER, {"filter": {"createdAt": {"after": "2026-01-01T" + "0" * 3_900_000}}}),
        "BAD_USER_INPUT",
    ),
    "unknown variables": (lambda: _body(FILTER, {f"{number}": 0 for number in range(250_000)}), "data"),
    **{f"document: {name}": (partial(_body, HEAVY_DOCUMENTS[name]), "BAD_USER_INPUT") for name in _HEAVIEST},
}
"""Request bodies by name, with the expected error code, or `data` for a request that succeeds."""
