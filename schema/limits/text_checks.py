"""Rejects values of JSON and GraphQL that databases cannot store: the NUL character and numbers beyond all floats."""

import math
from typing import Any, cast

import orjson
from graphql import DocumentNode, FloatValueNode, GraphQLError, IntValueNode, StringValueNode, Visitor, visit

NUL = "\0"
_TEXT_CONTAINERS = frozenset({str, dict, list})


class _LiteralChecker(Visitor):
    """Collects the errors in literals of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[GraphQLError] = []

    def enter_string_value(self, node: StringValueNode, *_: object) -> None:
        if NUL in node.value:
            self.errors.append(GraphQLError("Strings must not contain the NUL character (U+0000).", node))

    def enter_float_value(self, node: FloatValueNode | IntValueNode, *_: object) -> None:
        if math.isinf(float(node.value)):
            self.errors.append(GraphQLError("The number exceeds the range of a 64-bit float.", node))

    enter_int_value = enter_float_value


def find_literal_errors(document: DocumentNode) -> list[GraphQLError]:
    """Return the errors in literals of the document."""
    checker = _LiteralChecker()
    visit(document, checker)
    return checker.errors


def check_variables(variables: dict[str, Any]) -> tuple[list[GraphQLError], int]:
    """Return the errors in the variables, each with its path, and the size of the variables as JSON in bytes."""
    # Searching the JSON costs a fraction of visiting each value, and nearly all requests have no NUL.
    try:
        json = orjson.dumps(variables)
    except TypeError as error:
        return [GraphQLError(f"The variables cannot be stored as JSON: {error}.")], 0
    if b"\\u0000" not in json:
        return [], len(json)
    if (path := _path_to_nul(variables)) is None:
        return [], len(json)
    message = f"{path}: must not contain the NUL character (U+0000)."
    return [GraphQLError(message, extensions={"code": "BAD_USER_INPUT", "argument": path})], len(json)


def _path_to_nul(value: object) -> str | None:
    """Return the path of the first text or object key that contains NUL; None when no text does."""
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
        # Values of other types are skipped here: a list can have millions of numbers.
        if type(item) in _TEXT_CONTAINERS and (nested_path := _path_to_nul(item)) is not None:
            return f"{name}.{nested_path}" if nested_path else f"{name}"
    return None
