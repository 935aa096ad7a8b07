"""What the fields of an operation share."""

from dataclasses import fields
from typing import Any, cast

from schema.context import Context

OF_ITS_OWN = {"loaders", "selections", "deadline"}


def test_an_operation_has_all_of_its_context_but_what_is_its_own() -> None:
    given = {each.name: object() for each in fields(Context)}
    context = Context(**cast("dict[str, Any]", given))

    of_operation = context.for_operation()

    kept = {name for name, value in given.items() if getattr(of_operation, name) is value}
    assert kept == set(given) - OF_ITS_OWN
