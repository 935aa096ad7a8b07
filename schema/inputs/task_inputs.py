"""The JSON argument `taskInputs`: the source of each parameter of a task."""

from collections.abc import Mapping
from typing import Any, cast

from db.records import JsonText
from db.runtime.ids import canonical_id
from resolvers.errors import BadInput
from schema.inputs.arguments import serialize_json

REQUIRED_FIELDS: Mapping[str, str] = {"task_run": "id", "parameter": "name", "constant": "type"}
"""Kinds of task inputs, and the field that each kind requires."""


def parse_task_inputs(path: str, value: object | None) -> JsonText:
    """Validate task inputs and serialize them for storage. Raises BadInput.

    The result maps the name of each parameter to a list of inputs, each with its kind (`input_type`) and the field that
    the kind requires; other fields are dropped. The kind is optional when the field identifies it.
    """
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        raise BadInput(path, "must be a JSON object.")
    inputs = cast("dict[str, object]", value)
    return serialize_json(path, {name: _parse_list(f"{path}.{name}", each) for name, each in inputs.items()})


def _parse_list(path: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise BadInput(path, "must be a list of inputs.")
    return [_parse_input(f"{path}.{index}", each) for index, each in enumerate(cast("list[object]", value))]


def _parse_input(path: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(path, "must be a JSON object.")
    input_object = cast("dict[str, object]", value)
    for kind, field in REQUIRED_FIELDS.items():
        content = input_object.get(field)
        if input_object.get("input_type", kind) == kind and isinstance(content, str) and _is_valid(kind, content):
            return {"input_type": kind, field: content}
    raise BadInput(path, "must be a task_run with an id, a parameter with a name, or a constant with a type.")


def _is_valid(kind: str, content: str) -> bool:
    if kind != "task_run":
        return True
    try:
        canonical_id(content)
    except ValueError:
        return False
    return True
