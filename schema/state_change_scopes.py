"""Scopes that a state change of a task run requires, which depend on its arguments.

With the scope `work`, a client may change a run only under its lease and by the rules: the lease shows that the run was
delivered to the client. `force`, and a change without a `leaseId`, require the scope `write`. The arguments are read
before the operation is executed, from the document and from the variables as the client sent them. A value that is
invalid counts as `force`, or as a `leaseId`; the execution refuses it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from graphql import (
    BooleanValueNode,
    FieldNode,
    GraphQLError,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    VariableNode,
)

from db.enums import Scope
from schema.permissions import WRITE_SCOPES, Forbidden, Scopes

Values = Mapping[str, Any]
"""Values by name: literals as nodes of the document, variables as JSON."""

SINGLE_STATE_CHANGE = "setTaskRunState"
BATCH_OF_STATE_CHANGES = "setTaskRunStates"
EXCHANGE = "exchangeTaskRuns"
_LIST_ARGUMENTS = {BATCH_OF_STATE_CHANGES: "inputs", EXCHANGE: "reports"}
"""The argument with the state changes, of each field that sets several states."""


def select_state_changes(fields: Iterable[FieldNode]) -> Sequence[FieldNode]:
    """Return the root fields that change states of task runs."""
    return [node for node in fields if node.name.value in (SINGLE_STATE_CHANGE, *_LIST_ARGUMENTS)]


def check_state_changes(fields: Sequence[FieldNode], variables: Values, scopes: Scopes) -> None:
    """Raise GraphQLError for the first state change of these fields that `scopes` do not permit.

    `variables` includes the defaults of variables that the client has not set, as nodes.
    """
    if Scope.WRITE in scopes:
        return
    for node in fields:
        for path, change in _changes_of(node, variables):
            if (restriction := _restriction_of(change, variables)) is not None:
                argument, description = restriction
                refusal = Forbidden(
                    f"{node.name.value} {description}", WRITE_SCOPES, scopes, argument=f"{path}{argument}"
                )
                raise GraphQLError(str(refusal), node, original_error=refusal)


def _changes_of(node: FieldNode, variables: Values) -> Iterator[tuple[str, Values]]:
    """Yield the members of each state change of the field, and the prefix of their argument paths."""
    arguments = {argument.name.value: argument.value for argument in node.arguments or ()}
    if node.name.value == SINGLE_STATE_CHANGE:
        yield "", arguments
        return
    name = _LIST_ARGUMENTS[node.name.value]
    changes = _value_of(arguments.get(name), variables)
    for index, item in enumerate(_items_of(changes)):
        yield f"{name}.{index}.", _members_of(_value_of(item, variables))


def _restriction_of(change: Values, variables: Values) -> tuple[str, str] | None:
    """Return the argument that requires the scope `write`, and what it does; None when no argument requires it."""
    force = _value_of(change.get("force"), variables)
    if not _is_null(force) and not _is_false(force):
        return "force", "with `force: true`"
    if _is_null(_value_of(change.get("leaseId"), variables)):
        return "leaseId", "without a `leaseId`"
    return None


def _value_of(value: object, variables: Values) -> object:
    """Return the value, or the value of the variable that it names; None when the variable has none."""
    return variables.get(value.name.value) if isinstance(value, VariableNode) else value


def _items_of(value: object) -> Sequence[object]:
    """Return the items of a list. GraphQL takes any other value as a list of one item."""
    if isinstance(value, ListValueNode):
        return value.values or ()
    if isinstance(value, list):
        return cast("list[object]", value)
    return () if _is_null(value) else (value,)


def _members_of(value: object) -> Values:
    if isinstance(value, ObjectValueNode):
        return {field.name.value: field.value for field in value.fields or ()}
    return cast("Values", value) if isinstance(value, dict) else {}


def _is_null(value: object) -> bool:
    return value is None or isinstance(value, NullValueNode)


def _is_false(value: object) -> bool:
    return value is False or (isinstance(value, BooleanValueNode) and not value.value)
