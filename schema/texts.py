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


def faults_in_variables(variables: dict[str, Any]) -> list[GraphQLError]:
    """What is wrong with the variables; each fault names its place."""
    # Looking at the JSON costs a fraction of looking at each value, and finds nothing in nearly all requests.
    try:
        if b"\\u0000" not in orjson.dumps(variables):
            return []
    except TypeError as error:
        return [GraphQLError(f"The variables can not be stored as JSON: {error}.")]
    return [
        GraphQLError(
            f"{path}: A text may not contain the character NUL.",
            extensions={"code": "BAD_USER_INPUT", "argument": path},
        )
        for path, text in _texts(variables, "")
        if NUL in text
    ]


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
