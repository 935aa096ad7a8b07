"""`taskInputs`: where each parameter of a task comes from."""

from collections.abc import Mapping
from typing import Any, cast

from db.records import JsonText
from resolvers.errors import BadInput
from resolvers.ids import canonical_id
from schema.inputs.arguments import read_json

FORMS: Mapping[str, str] = {"task_run": "id", "parameter": "name", "constant": "type"}
"""The kinds of input, and the field that each has to have."""


def read_task_inputs(path: str, value: object | None) -> JsonText:
    """The inputs as they are stored: by parameter, a list of inputs with their kind and its field, and nothing else.

    The kind (`input_type`) may be left out where the field tells it.
    """
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        raise BadInput(path, "has to be a JSON object.")
    inputs = cast("dict[str, object]", value)
    return read_json(path, {name: _read_list(f"{path}.{name}", each) for name, each in inputs.items()})


def _read_list(path: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise BadInput(path, "has to be a list of inputs.")
    return [_read_input(f"{path}.{place}", each) for place, each in enumerate(cast("list[object]", value))]


def _read_input(path: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(path, "has to be a JSON object.")
    given = cast("dict[str, object]", value)
    for kind, field in FORMS.items():
        content = given.get(field)
        if given.get("input_type", kind) == kind and isinstance(content, str) and _fits(kind, content):
            return {"input_type": kind, field: content}
    raise BadInput(path, "has to be a task_run with an id, a parameter with a name, or a constant with a type.")


def _fits(kind: str, content: str) -> bool:
    if kind != "task_run":
        return True
    try:
        canonical_id(content)
    except ValueError:
        return False
    return True
