"""Refuses what JSON and GraphQL can say and a database can not keep: the character NUL, and numbers beyond all floats."""

import math
from collections.abc import Iterator
from typing import Any, cast

import orjson
from graphql import DocumentNode, FloatValueNode, GraphQLError, IntValueNode, StringValueNode, Visitor, visit

NUL = "\0"


class _Finder(Visitor):
    """Collects what is wrong with the values that are written in a document."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[GraphQLError] = []

    def enter_string_value(self, node: StringValueNode, *_: object) -> None:
        if NUL in node.value:
            self.errors.append(GraphQLError("A text may not contain the character NUL.", node))

    def enter_float_value(self, node: FloatValueNode | IntValueNode, *_: object) -> None:
        if math.isinf(float(node.value)):
            self.errors.append(GraphQLError("The number is too large.", node))

    enter_int_value = enter_float_value


def faults_in_document(document: DocumentNode) -> list[GraphQLError]:
    """What is wrong with the values that are written in the document."""
    finder = _Finder()
    visit(document, finder)
    return finder.errors


def look_at_variables(variables: dict[str, Any]) -> tuple[list[GraphQLError], int]:
    """What is wrong with the variables, where each fault names its place, and how many bytes they are as JSON."""
    # Looking at the JSON costs a fraction of looking at each value, and finds nothing in nearly all requests.
    try:
        json = orjson.dumps(variables)
    except TypeError as error:
        return [GraphQLError(f"The variables can not be stored as JSON: {error}.")], 0
    if b"\\u0000" not in json:
        return [], len(json)
    faults = [
        GraphQLError(
            f"{path}: A text may not contain the character NUL.",
            extensions={"code": "BAD_USER_INPUT", "argument": path},
        )
        for path, text in _texts(variables, "")
        if NUL in text
    ]
    return faults, len(json)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            below = f"{path}.{name}" if path else name
            yield below, name
            yield from _texts(item, below)
    elif isinstance(value, list):
        for place, item in enumerate(cast("list[object]", value)):
            yield from _texts(item, f"{path}.{place}")
