"""The context that the fields of an operation share."""

from dataclasses import fields
from typing import Any, cast

from schema.context import Context

PER_OPERATION = {"loaders", "selections", "deadline"}


def test_an_operation_shares_all_but_its_own_parts_of_the_context() -> None:
    values = {each.name: object() for each in fields(Context)}
    context = Context(**cast("dict[str, Any]", values))

    operation_context = context.for_operation()

    shared = {name for name, value in values.items() if getattr(operation_context, name) is value}
    assert shared == set(values) - PER_OPERATION
