"""Requests that cost their sender little, and a server that does not look first, very much."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.hostile.heavy_documents import HEAVY

FILTER = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
CREATE = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { created } }"
CREATE_MANY = "mutation M($inputs: [TaskRunCreateInput!]!) { createTaskRuns(inputs: $inputs) { created } }"
SET_MANY = "mutation M($inputs: [TaskRunStateChangeInput!]!) { setTaskRunStates(inputs: $inputs) { id } }"


def _asking(query: str, variables: Any = None) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


def _with_variables(query: str, raw: str) -> bytes:
    """With variables that are written here, since no writer of JSON would write them."""
    return b'{"query": ' + json.dumps(query).encode() + b', "variables": ' + raw.encode() + b"}"


def _fragments(levels: int, width: int) -> str:
    spread = [f"fragment F{n} on TaskRun {{ {f'...F{n + 1} ' * width} }}" for n in range(levels)]
    return f"{{ taskRuns {{ nodes {{ ...F0 }} }} }} {' '.join(spread)} fragment F{levels} on TaskRun {{ id }}"


def _creating(raw: str, key: str = '"a"') -> bytes:
    """A task run with these parameters; with another key than a text, it is refused once they were read."""
    return _with_variables(CREATE, f'{{"input": {{"taskKey": {key}, "parameters": {raw}}}}}')


def _sixteen_inputs() -> bytes:
    """Each with many tags, though not more than one may have."""
    names = [f"a{number}" for number in range(16)]
    definitions = " ".join(f"${name}: TaskRunCreateInput!" for name in names)
    fields = " ".join(f"{name}: createTaskRun(input: ${name}) {{ created }}" for name in names)
    variables = {name: {"taskKey": "a", "tags": ["a"] * 24_000} for name in names}
    return _asking(f"mutation M({definitions}) {{ {fields} }}", variables)


def _nested_filter(depth: int) -> Any:
    filter: Any = {}
    for _ in range(depth):
        filter = {"not": filter}
    return filter


_SENT = [
    "names of input fields, nearly",
    "names of types, nearly",
    "names that the document defines",
    "arguments twice",
    "a large value of another type",
    "values of an enum, nearly",
]
"""Documents that are the worst of their kind."""

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "deep fragments": (lambda: _asking(_fragments(64, 2)), "QUERY_TOO_COMPLEX"),
    "wide fragments": (lambda: _asking(_fragments(8, 100)), "QUERY_TOO_COMPLEX"),
    "cyclic fragments": (
        lambda: _asking(
            "{ taskRuns { nodes { ...A } } } fragment A on TaskRun { ...B } fragment B on TaskRun { ...A }"
        ),
        "BAD_USER_INPUT",
    ),
    "aliases": (
        lambda: _asking("{ " + " ".join(f"a{n}: __typename" for n in range(20_000)) + " }"),
        "QUERY_TOO_COMPLEX",
    ),
    "directives": (lambda: _asking("{ __typename " + "@skip(if: false) " * 1000 + "}"), "QUERY_TOO_COMPLEX"),
    "few tokens' directives": (lambda: _asking("{ __typename " + "@a " * 900 + "}"), "QUERY_TOO_COMPLEX"),
    "operations": (lambda: _asking(" ".join(f"query Q{n} {{ __typename }}" for n in range(5000))), "QUERY_TOO_COMPLEX"),
    "some operations": (lambda: _asking(" ".join(f"query Q{n} {{ a }}" for n in range(390))), "BAD_USER_INPUT"),
    "braces": (lambda: _asking("{" * 100_000), "BAD_USER_INPUT"),
    "some braces": (lambda: _asking("{a" * 900), "BAD_USER_INPUT"),
    "brackets": (lambda: _asking("{ taskRun(id: " + "[" * 1900 + ") }"), "BAD_USER_INPUT"),
    "a deep filter": (
        lambda: _asking("{ taskRunCount(filter: " + "{not: " * 190 + "{}" + "}" * 190 + ") }"),
        "BAD_USER_INPUT",
    ),
    "a deep filter in a variable": (lambda: _asking(FILTER, {"filter": _nested_filter(300)}), "BAD_USER_INPUT"),
    "a wide filter": (lambda: _asking(FILTER, {"filter": {"or": [{}] * 200_000}}), "BAD_USER_INPUT"),
    "deep JSON": (
        lambda: _with_variables(
            CREATE, '{"input": {"taskKey": "a", "parameters": ' + "[" * 100_000 + "]" * 100_000 + "}}"
        ),
        "BAD_USER_INPUT",
    ),
    "deep JSON that can be read": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "parameters": ' + "[" * 200 + "]" * 200 + "}}"),
        "data",
    ),
    "deep objects": (lambda: _with_variables(CREATE, '{"a":' * 100_000 + "1" + "}" * 100_000), "BAD_USER_INPUT"),
    "unfinished JSON": (lambda: b"[" * 1_000_000, "BAD_USER_INPUT"),
    "a list of a million": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "tags": [' + "0," * 1_000_000 + "0]}}"),
        "BAD_USER_INPUT",
    ),
    "a million keys": (
        lambda: _with_variables(FILTER, '{"filter": {' + ",".join(f'"{n}":0' for n in range(250_000)) + "}}"),
        "BAD_USER_INPUT",
    ),
    "ids": (
        lambda: _asking("query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["a"] * 500_000}),
        "BAD_USER_INPUT",
    ),
    "a long text": (lambda: _asking(CREATE, {"input": {"taskKey": "a" * 3_900_000}}), "BAD_USER_INPUT"),
    "a long name": (lambda: _asking("{ " + "a" * 3_900_000 + " }"), "QUERY_TOO_COMPLEX"),
    "a long comment": (lambda: _asking("#" * 3_900_000), "QUERY_TOO_COMPLEX"),
    "spaces": (lambda: _asking(" " * 3_900_000), "BAD_USER_INPUT"),
    "a long number": (
        lambda: _asking("{ taskRuns(first: " + "1" * 1_000_000 + ") { nodes { id } } }"),
        "QUERY_TOO_COMPLEX",
    ),
    "1e400": (lambda: _asking("{ taskRuns(first: 1e400) { nodes { id } } }"), "BAD_USER_INPUT"),
    "1e400 in JSON": (
        lambda: _with_variables(CREATE, '{"input": {"taskKey": "a", "parameters": 1e400}}'),
        "BAD_USER_INPUT",
    ),
    "2^70": (lambda: _asking(f"{{ taskRuns(first: {2**70}) {{ nodes {{ id }} }} }}"), "BAD_USER_INPUT"),
    "a long number in JSON": (
        lambda: _with_variables(
            "query Q($n: Int) { taskRuns(first: $n) { nodes { id } } }", '{"n": ' + "9" * 1_000_000 + "}"
        ),
        "BAD_USER_INPUT",
    ),
    "too large": (lambda: b" " * (4 * 1024 * 1024 + 1), "BAD_USER_INPUT"),
    "empty lists": (lambda: _creating("[" + "[]," * 1_350_000 + "0]", key="1"), "BAD_USER_INPUT"),
    "as many deep lists as one may send": (
        lambda: _creating("[" + ("[" * 200 + "]" * 200 + ",") * 2490 + "0]"),
        "data",
    ),
    "deep lists": (lambda: _creating("[" + ("[" * 900 + "]" * 900 + ",") * 2200 + "0]"), "BAD_USER_INPUT"),
    "lists in objects": (lambda: _creating("[" + '{"":[]},' * 249_000 + "0]"), "data"),
    "lists that nobody reads": (
        lambda: b'{"query": "{ __typename }", "extensions": {"a": [' + b"[]," * 499_000 + b"0]}}",
        "data",
    ),
    "lists to keep": (lambda: _creating("[" + "[]," * 499_000 + "0," * 1_000_000 + "0]"), "data"),
    "numbers to keep": (lambda: _creating("[" + "0," * 2_000_000 + "0]"), "data"),
    "a text to keep": (lambda: _creating('"' + "a" * 4_000_000 + '"'), "data"),
    "objects to keep": (
        lambda: _creating("{" + ",".join(f'"{number}":0' for number in range(380_000)) + "}"),
        "data",
    ),
    "NULs": (lambda: _creating("[" + ",".join(['"\\u0000"'] * 420_000) + "]"), "BAD_USER_INPUT"),
    "the last NUL": (lambda: _creating("[" + "0," * 1_900_000 + '"\\u0000"]'), "BAD_USER_INPUT"),
    "sixteen inputs": (_sixteen_inputs, "BAD_USER_INPUT"),
    "tags, the last one wrong": (
        lambda: _asking(CREATE, {"input": {"taskKey": "a", "tags": ["a"] * 24_999 + [0]}}),
        "BAD_USER_INPUT",
    ),
    "wrong tags": (lambda: _asking(CREATE, {"input": {"taskKey": "a", "tags": [0] * 25_000}}), "BAD_USER_INPUT"),
    "a thousand inputs, the last one wrong": (
        lambda: _asking(CREATE_MANY, {"inputs": [{"taskKey": "a", "tags": ["a"] * 23}] * 999 + [{}]}),
        "BAD_USER_INPUT",
    ),
    "too many inputs": (
        lambda: _asking(SET_MANY, {"inputs": [{"id": "a", "state": {"type": "RUNNING"}}] * 60_000}),
        "BAD_USER_INPUT",
    ),
    "fields that nearly exist": (
        lambda: _asking(FILTER, {"filter": {f"expectedStartTim{number}": 0 for number in range(1900)}}),
        "BAD_USER_INPUT",
    ),
    "unknown fields beside a large one": (
        lambda: _asking(
            CREATE,
            {"input": {"taskKey": "a", "parameters": "a" * 3_900_000, **{f"parameter{n}": 0 for n in range(10)}}},
        ),
        "BAD_USER_INPUT",
    ),
    "a field with a long name": (lambda: _asking(FILTER, {"filter": {"a" * 3_900_000: 0}}), "BAD_USER_INPUT"),
    "a long value of an enum": (
        lambda: _asking(
            "query Q($sort: TaskRunSort) { taskRuns(sort: $sort) { totalCount } }", {"sort": "A" * 3_900_000}
        ),
        "BAD_USER_INPUT",
    ),
    "long values of an enum": (
        lambda: _asking(FILTER, {"filter": {"state": {"type": {"any": ["A" * 78_000 + f"{n}" for n in range(49)]}}}}),
        "BAD_USER_INPUT",
    ),
    "a long instant": (
        lambda: _asking(FILTER, {"filter": {"created": {"after": "2026-01-01T" + "0" * 3_900_000}}}),
        "BAD_USER_INPUT",
    ),
    "unknown variables": (lambda: _asking(FILTER, {f"{number}": 0 for number in range(250_000)}), "data"),
    **{f"document: {name}": (partial(_asking, HEAVY[name]), "BAD_USER_INPUT") for name in _SENT},
}
"""What each is, and the code that it is answered with; `data` where it may be."""
