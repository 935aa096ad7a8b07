"""Conversion of the fields that task runs have when they are created and can change later, and of updates."""

import strawberry

from db.enums import StateType
from db.records import JsonText
from resolvers.errors import BadInput
from resolvers.orchestration.transition import ProposedState
from resolvers.task_run_updates import UNCHANGED, TaskRunUpdate, Unchanged
from schema.inputs.arguments import serialize_json, validate_count, validate_seconds
from schema.scalars import JSON, DateTime

MAX_PRIORITY = 10
MAX_METADATA_BYTES = 65_536
MAX_DELAY_SECONDS = 315_360_000.0
"""Ten years of 365 days."""

MAX_TIMEOUT_SECONDS = 31_536_000.0
"""A year of 365 days."""

SCHEDULED = ProposedState(StateType.SCHEDULED, StateType.SCHEDULED.default_name)


def validate_priority(path: str, priority: int) -> int:
    return validate_count(path, priority, minimum=-MAX_PRIORITY, maximum=MAX_PRIORITY)


def serialize_metadata(path: str, value: object | None) -> JsonText | None:
    """Serialize metadata for storage. Raises BadInput when it is not a JSON object, or too large."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadInput(path, "must be a JSON object.")
    text = serialize_json(path, value)  # pyright: ignore[reportUnknownArgumentType]
    # UTF-8 uses at most four bytes for a character, so short texts need not be encoded.
    if len(text) * 4 > MAX_METADATA_BYTES and (size := len(text.encode())) > MAX_METADATA_BYTES:
        raise BadInput(path, f"must have at most {MAX_METADATA_BYTES:,} bytes as JSON; got {size:,}.")
    return text


def validate_expiry(path: str, expires_at: str | None, *, in_flow_run: bool) -> str | None:
    """Check that only a background run expires. The time is compared with the clock of the database later."""
    if expires_at is not None and in_flow_run:
        raise BadInput(path, "cannot be combined with `flowRunId`.")
    return expires_at


def validate_time_limit(path: str, timeout_seconds: float | None) -> float | None:
    if timeout_seconds is None:
        return None
    return validate_seconds(path, timeout_seconds, minimum=1, maximum=MAX_TIMEOUT_SECONDS)


def validate_delay(path: str, delay_seconds: float | None, state: ProposedState | None) -> float | None:
    """Check a delay, and that the first state, if one is given, is SCHEDULED without a time of its own."""
    if delay_seconds is None:
        return None
    validate_seconds(path, delay_seconds, minimum=0, maximum=MAX_DELAY_SECONDS)
    if state is not None and state.type is not StateType.SCHEDULED:
        raise BadInput(path, f"requires a SCHEDULED state; got {state.type}.")
    if state is not None and state.details.scheduled_time is not None:
        raise BadInput(path, "cannot be combined with `state.details.scheduledTime`.")
    return delay_seconds


def first_state(state: ProposedState | None, delay_seconds: float | None, default: ProposedState) -> ProposedState:
    """Return the first state of a run: SCHEDULED when only a delay is given."""
    if state is not None:
        return state
    return default if delay_seconds is None else SCHEDULED


@strawberry.input(description="Changes to a task run. Fields that are omitted do not change.")
class TaskRunUpdateInput:
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="New name of the run. Null or an empty name is replaced by a generated name. When the field is "
        "omitted, the name does not change.",
    )
    tags: list[str] | None = strawberry.field(
        default=None,
        description="New tags, which replace all tags of the run. Null changes nothing. A run that is RUNNING or "
        "CANCELLING keeps its concurrency slots until it leaves these states; the new tags count when it next enters "
        "RUNNING.",
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="New metadata, which replaces the whole object: a JSON object of at most 64 KiB. Null removes the "
        "metadata. When the field is omitted, it does not change.",
    )
    priority: int | None = strawberry.field(
        default=None,
        description="New priority, -10 to 10. Null changes nothing.",
    )
    expires_at: DateTime | None = strawberry.field(
        default=strawberry.UNSET,
        description="New time at which the run expires, in the future. Null removes the expiry. When the field is omitted, "
        "it does not change. Fails with `BAD_USER_INPUT` for a task run of a flow run.",
    )

    def parse(self, id: str) -> TaskRunUpdate:
        return TaskRunUpdate(
            id,
            name=None if self.name is strawberry.UNSET else self.name or "",
            tags=self.tags,
            priority=None if self.priority is None else validate_priority("input.priority", self.priority),
            metadata=self._parse_metadata(),
            expires_at=UNCHANGED if self.expires_at is strawberry.UNSET else self.expires_at,
        )

    def _parse_metadata(self) -> JsonText | Unchanged | None:
        if self.metadata is strawberry.UNSET:
            return UNCHANGED
        return serialize_metadata("input.metadata", self.metadata)
