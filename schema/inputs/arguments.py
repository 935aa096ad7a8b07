"""Reading arguments whose types say less than the rules do. Each refusal names the argument by its path."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

from db.records import JsonText, to_json
from resolvers.errors import BadInput
from resolvers.ids import canonical_id

LARGEST_BATCH = 1000
LARGEST_PREFETCH = 1000
LONGEST_LEASE_SECONDS = 86_400.0
LONGEST_WAIT_SECONDS = 60.0
MOST_TASK_KEYS = 100
LONGEST_KEY_BYTES = 1000
"""PostgreSQL finds a row by 2,704 bytes at most, and two of these can be in one index."""

LONGEST_STATE_CACHE_KEY_BYTES = 2000

TaskKeys = Annotated[list[str], strawberry.argument(description="The keys, 1 to 100. They take turns.")]
LeaseSeconds = Annotated[
    float,
    strawberry.argument(description="How long a lease runs once you have acknowledged it: 1 to 86,400 seconds."),
]
WorkerName = Annotated[str | None, strawberry.argument(description="What to call you where people look at the queue.")]


def read_id(path: str, text: str) -> str:
    """The id as it is stored; upper case, braces and missing hyphens are forgiven."""
    try:
        return canonical_id(text)
    except ValueError:
        raise BadInput(path, f"{text!r:.60} is no id; ids are UUIDs.") from None


def read_optional_id(path: str, text: str | None) -> str | None:
    return None if text is None else read_id(path, text)


def read_ids(path: str, texts: Sequence[str]) -> list[str]:
    return [read_id(f"{path}.{place}", text) for place, text in enumerate(texts)]


def read_json(path: str, value: object) -> JsonText:
    """The text to store for a JSON value."""
    try:
        return to_json(value)
    except ValueError as error:
        raise BadInput(path, f"can not be stored as JSON: {error}.") from None


def read_optional_json(path: str, value: object | None) -> JsonText | None:
    return None if value is None else read_json(path, value)


def read_json_object(path: str, value: object | None) -> JsonText:
    """The text of a JSON object; of an empty one where nothing is given."""
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        raise BadInput(path, "has to be a JSON object.")
    return read_json(path, value)  # pyright: ignore[reportUnknownArgumentType]


def read_count(path: str, value: int, *, least: int, most: int) -> int:
    if not least <= value <= most:
        raise BadInput(path, f"has to be from {least} to {most:,}, not {value}.")
    return value


def read_batch_size(path: str, items: Sequence[object]) -> None:
    if len(items) > LARGEST_BATCH:
        raise BadInput(path, f"takes at most {LARGEST_BATCH:,} items at once, not {len(items):,}.")


def read_seconds(path: str, value: float, *, least: float, most: float) -> float:
    if not least <= value <= most:
        raise BadInput(path, f"has to be from {least:g} to {most:g} seconds, not {value:g}.")
    return value


def read_key(path: str, key: str, most: int = LONGEST_KEY_BYTES) -> str:
    """A text that is looked up by."""
    # A character takes four bytes at most.
    if len(key) * 4 > most and (found := len(key.encode(errors="replace"))) > most:
        raise BadInput(path, f"may have at most {most:,} bytes, not {found:,}.")
    return key


def read_optional_key(path: str, key: str | None, most: int = LONGEST_KEY_BYTES) -> str | None:
    return None if key is None else read_key(path, key, most)


def read_name(path: str, name: str) -> str:
    """The name of a flow or deployment, which becomes part of addresses."""
    read_key(path, name)
    if banned := sorted(set(name) & set("/%&><")):
        raise BadInput(path, f"may not contain {' '.join(banned)}")
    return name


def read_task_keys(path: str, keys: Sequence[str]) -> list[str]:
    """At least one key; each once."""
    if not 1 <= len(keys) <= MOST_TASK_KEYS:
        raise BadInput(path, f"takes from 1 to {MOST_TASK_KEYS} keys, not {len(keys)}.")
    return list(dict.fromkeys(keys))
