"""Checks of arguments that GraphQL types cannot express. Each error names the argument by its path."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

from db.records import JsonText, to_json
from db.runtime.ids import canonical_id
from resolvers.errors import BadInput
from resolvers.queue.queue_ids import decode_queue_id
from resolvers.trace_context import is_trace_parent
from schema.limits.options import MAX_BATCH_SIZE

MAX_PREFETCH = 1000
MAX_LEASE_SECONDS = 86_400.0
MAX_WAIT_SECONDS = 60.0
MAX_TASK_KEYS = 1000
MAX_KEY_BYTES = 1000
"""PostgreSQL limits an index entry to 2,704 bytes, and an index can contain two keys."""

MAX_STATE_CACHE_KEY_BYTES = 2000

MAX_JSON_DEPTH = 252
_JSON_ERRORS = {
    "Recursion limit reached": f"must have at most {MAX_JSON_DEPTH} levels of nested lists and objects.",
    "Integer exceeds 64-bit range": "must not contain integers beyond 64 bits. Send them as strings.",
}
"""Messages for the errors of orjson that clients can cause."""

TASK_KEYS_DESCRIPTION = (
    "Task keys to receive runs for, 1 to 1,000, each at most 1,000 bytes. They are served in round robin."
)
LEASE_SECONDS_DESCRIPTION = (
    "Duration of an acknowledged lease in seconds, 1 to 86,400. Defaults to 60. Until it is acknowledged, a lease lasts "
    "for the server's `RUNYARD_ACKNOWLEDGE_SECONDS`."
)
WORKER_NAME_DESCRIPTION = "Name of the worker, shown in `QueueEntry.workerName`. Defaults to null."
START_DESCRIPTION = (
    "Whether to start the runs: each is RUNNING when it is delivered, by the orchestration rules. Defaults to false. Runs "
    "with a cached result for their `cacheKey` become COMPLETED and are not delivered. A started run is requeued unless "
    "its `leaseId` is named in a request (acknowledge, renew, or set a state) within 30 seconds (or the server's "
    "`RUNYARD_ACKNOWLEDGE_SECONDS`); its `runCount` then does not change."
)
CLAIM_LIMIT_DESCRIPTION = "Maximum number of runs to claim, 1 to 500. Defaults to 1. Fewer runs may be returned."

TaskKeysArgument = Annotated[list[str], strawberry.argument(description=TASK_KEYS_DESCRIPTION)]
LeaseSecondsArgument = Annotated[float, strawberry.argument(description=LEASE_SECONDS_DESCRIPTION)]
StartArgument = Annotated[bool, strawberry.argument(description=START_DESCRIPTION)]
WorkerNameArgument = Annotated[str | None, strawberry.argument(description=WORKER_NAME_DESCRIPTION)]


AtMost = Annotated[
    int | None,
    strawberry.argument(
        description="Number at which counting stops, at least 1. A result equal to it means that many or more. Defaults to "
        "no limit."
    ),
]


def validate_at_most(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise BadInput("atMost", f"must be at least 1; got {value:,}.")
    return value


def parse_id(path: str, text: str) -> str:
    """Return an id in its stored form. Accepts upper case, braces and missing hyphens."""
    try:
        return canonical_id(text)
    except ValueError:
        raise BadInput(path, f"must be a UUID; got {text!r:.60}.") from None


def parse_node_id(path: str, text: str) -> str:
    """Return the id of an object of any type: a UUID in its stored form, or the id of a task queue."""
    if decode_queue_id(text) is not None:
        return text
    try:
        return canonical_id(text)
    except ValueError:
        raise BadInput(path, f"must be a UUID or the id of a task queue; got {text!r:.60}.") from None


def parse_optional_id(path: str, text: str | None) -> str | None:
    return None if text is None else parse_id(path, text)


def parse_ids(path: str, values: Sequence[str]) -> list[str]:
    return [parse_id(f"{path}.{index}", text) for index, text in enumerate(values)]


def serialize_json(path: str, value: object) -> JsonText:
    """Serialize a JSON value for storage. Raises BadInput when it is nested too deeply or has integers beyond 64 bits."""
    try:
        # orjson serializes 254 levels. Two lists around the value reserve levels for the objects that contain it.
        return to_json([[value]])[2:-2]
    except ValueError as error:
        raise BadInput(path, _JSON_ERRORS.get(str(error), f"cannot be stored as JSON: {error}.")) from None


def serialize_optional_json(path: str, value: object | None) -> JsonText | None:
    return None if value is None else serialize_json(path, value)


def serialize_json_object(path: str, value: object | None) -> JsonText:
    """Serialize a JSON object for storage. None becomes an empty object."""
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        raise BadInput(path, "must be a JSON object.")
    return serialize_json(path, value)  # pyright: ignore[reportUnknownArgumentType]


def validate_count(path: str, value: int, *, minimum: int, maximum: int) -> int:
    if not minimum <= value <= maximum:
        raise BadInput(path, f"must be between {minimum} and {maximum:,}; got {value:,}.")
    return value


def validate_batch_size(path: str, items: Sequence[object]) -> None:
    if len(items) > MAX_BATCH_SIZE:
        raise BadInput(path, f"must have at most {MAX_BATCH_SIZE:,} items; got {len(items):,}.")


def validate_seconds(path: str, value: float, *, minimum: float, maximum: float) -> float:
    if not minimum <= value <= maximum:
        raise BadInput(path, f"must be between {minimum:g} and {maximum:,.15g} seconds; got {value:g}.")
    return value


def validate_key(path: str, key: str, maximum: int = MAX_KEY_BYTES) -> str:
    """Check the size of a text that rows are looked up by."""
    # UTF-8 uses at most four bytes for a character, so short texts need not be encoded.
    if len(key) * 4 > maximum and (size := len(key.encode(errors="replace"))) > maximum:
        raise BadInput(path, f"must have at most {maximum:,} bytes; got {size:,}.")
    return key


def validate_optional_key(path: str, key: str | None, maximum: int = MAX_KEY_BYTES) -> str | None:
    return None if key is None else validate_key(path, key, maximum)


def validate_name(path: str, name: str) -> str:
    """Check the name of a flow or deployment, which becomes part of URLs."""
    validate_key(path, name)
    if forbidden := sorted(set(name) & set("/%&><")):
        raise BadInput(path, f"must not contain {' '.join(forbidden)}")
    return name


def validate_task_keys(path: str, keys: Sequence[str]) -> list[str]:
    """Check the number and the sizes of task keys and remove duplicates."""
    if not 1 <= len(keys) <= MAX_TASK_KEYS:
        raise BadInput(path, f"must have between 1 and {MAX_TASK_KEYS:,} keys; got {len(keys):,}.")
    for index, key in enumerate(keys):
        validate_key(f"{path}.{index}", key)
    return list(dict.fromkeys(keys))


def validate_trace_parent(path: str, text: str) -> str:
    if not is_trace_parent(text):
        raise BadInput(path, f"must be a W3C `traceparent` of version 00; got {text!r:.80}.")
    return text
