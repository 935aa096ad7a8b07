"""Requests that cost their sender little, and a server that does not look first, very much."""

import json
from collections.abc import Callable
from typing import Any

FILTER = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
CREATE = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { created } }"


def _asking(query: str, variables: Any = None) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


def _with_variables(query: str, raw: str) -> bytes:
    """With variables that are written here, since no writer of JSON would write them."""
    return b'{"query": ' + json.dumps(query).encode() + b', "variables": ' + raw.encode() + b"}"


def _fragments(levels: int, width: int) -> str:
    spread = [f"fragment F{n} on TaskRun {{ {f'...F{n + 1} ' * width} }}" for n in range(levels)]
    return f"{{ taskRuns {{ nodes {{ ...F0 }} }} }} {' '.join(spread)} fragment F{levels} on TaskRun {{ id }}"


def _nested_filter(depth: int) -> Any:
    filter: Any = {}
    for _ in range(depth):
        filter = {"not": filter}
    return filter


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
}
"""What each is, and the code that it is answered with; `data` where it may be."""
