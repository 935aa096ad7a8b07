"""Refuses what JSON and GraphQL can say and a database can not keep: the character NUL, and numbers beyond all floats."""

import math
from typing import Any, cast

import orjson
from graphql import DocumentNode, FloatValueNode, GraphQLError, IntValueNode, StringValueNode, Visitor, visit

NUL = "\0"
_HOLD_TEXT = frozenset({str, dict, list})


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
    if (path := _path_to_nul(variables)) is None:
        return [], len(json)
    message = f"{path}: A text may not contain the character NUL."
    return [GraphQLError(message, extensions={"code": "BAD_USER_INPUT", "argument": path})], len(json)


def _path_to_nul(value: object) -> str | None:
    """Where the first text is that has one, names of objects among them; None where none has."""
    if isinstance(value, str):
        return "" if NUL in value else None
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        if (name := next((name for name in items if NUL in name), None)) is not None:
            return name
        entries = items.items()
    elif isinstance(value, list):
        entries = enumerate(cast("list[object]", value))
    else:
        return None
    for name, item in entries:
        # There may be millions of numbers.
        if type(item) in _HOLD_TEXT and (below := _path_to_nul(item)) is not None:
            return f"{name}.{below}" if below else f"{name}"
    return None
