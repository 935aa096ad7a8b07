"""GraphQL types, arguments and cursors of the state change feed."""

from dataclasses import dataclass
from typing import Annotated

import strawberry

from db.records import StateRecord, TaskRunRecord
from db.runtime.ids import canonical_id
from resolvers.errors import BadInput
from resolvers.state_changes import FeedPosition, StateChangeEvent
from schema.enums import StateType
from schema.inputs.cursors import decode_cursor, encode_cursor
from schema.inputs.filters import TaskRunFilter
from schema.types.states import State
from schema.types.task_runs import TaskRun

CURSOR_KIND = "changes"
"""Distinguishes cursors of the feed from cursors of lists."""
CURSOR_VERSION = 1

StateChangeFilterArgument = Annotated[
    TaskRunFilter | None,
    strawberry.argument(
        description="Filter for task runs; only their changes are returned. Defaults to all. It applies to each run as "
        "it is when the change is read, not as it was when the change was made."
    ),
]
StateChangeCursorArgument = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor of a change, after which the feed resumes. Valid with any filter, on every server of the "
        "same database and after a restart. Defaults to the present."
    ),
]


@strawberry.type(description="State change of a task run. Changes of deleted task runs are not sent.")
class TaskRunStateChange:
    cursor: str = strawberry.field(
        description="Opaque cursor of this change. Send it as `after` to resume the feed after this change."
    )
    task_run: TaskRun = strawberry.field(
        description="The task run as it was when the change was read. It may have a later state than `state`."
    )
    state: State = strawberry.field(description="State that the task run entered.")
    previous_state_type: StateType | None = strawberry.field(
        description="Type of the state before this one. Null for the first state."
    )
    gap: bool = strawberry.field(
        description="Whether changes before this one were skipped, because the client was too far behind or the feed "
        "cannot resume from its cursor. After a gap, query the task runs for their current states."
    )


@dataclass(frozen=True, slots=True)
class StateChangePayload:
    """Values that the fields of `TaskRunStateChange` read."""

    cursor: str
    task_run: TaskRunRecord
    state: StateRecord
    previous_state_type: StateType | None
    gap: bool

    @classmethod
    def from_event(cls, event: StateChangeEvent) -> "StateChangePayload":
        change = event.change
        return cls(
            encode_position(change.position), change.task_run, change.state, change.previous_state_type, gap=event.gap
        )


def encode_position(position: FeedPosition) -> str:
    """Return the cursor of a position in the feed."""
    return encode_cursor([CURSOR_KIND, CURSOR_VERSION, position.transaction, position.id])


def parse_state_change_cursor(path: str, cursor: str | None) -> FeedPosition | None:
    """Return the position that a cursor encodes. Raises BadInput for an invalid cursor."""
    if cursor is None:
        return None
    match decode_cursor(cursor):
        case ["changes", 1, int() | None as transaction, str(id)] if _is_position(transaction, id):
            return FeedPosition(transaction, id)
        case ["changes", int(version), *_] if version != CURSOR_VERSION:
            raise BadInput(path, "is a cursor of another server version. Subscribe again without it.")
        case _:
            raise BadInput(path, "is not a cursor of this feed. Use the `cursor` of a change.")


def _is_position(transaction: int | None, id: str) -> bool:
    try:
        is_number = type(transaction) is int and 0 <= transaction < 2**63
        return canonical_id(id) == id and (transaction is None or is_number)
    except ValueError:
        return False
