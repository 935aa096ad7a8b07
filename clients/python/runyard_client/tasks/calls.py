"""Calls: the input of `createTaskRun` for a task, its arguments and the options of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import orjson

from runyard_client.context import current_run
from runyard_client.tasks.task_options import SERVER_TIMEOUT_MARGIN, TaskOptions
from runyard_client.tasks.trace_context import current_trace_parent
from runyard_client.tasks.versions import distribution_version
from runyard_client.values import encode

if TYPE_CHECKING:
    from runyard_client.tasks.call_options import CallOptions
    from runyard_client.tasks.parameters import BoundArguments
    from runyard_client.tasks.task import Task

R_co = TypeVar("R_co", covariant=True)
MAX_METADATA_BYTES = 64 * 1024


@dataclass(frozen=True)
class Call(Generic[R_co]):
    """A call of a task that has not been sent.

    `input` is the complete `TaskRunCreateInput`. Its `dynamicKey` makes it idempotent: sending it twice creates one run.
    """

    task: Task[..., R_co] = field(compare=False)
    input: dict[str, Any]

    @property
    def key(self) -> str:
        """The `dynamicKey`."""
        key: str = self.input["dynamicKey"]
        return key

    @cached_property
    def size(self) -> int:
        """Size of the input in bytes of JSON."""
        return len(orjson.dumps(self.input))


def make_call(
    task: Task[..., R_co],
    options: CallOptions,
    bound: BoundArguments,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Call[R_co]:
    """Return the call of `task` with these arguments.

    Raises:
        NotSerialisable: an argument or the metadata has no representation in JSON.
        ValueError: the metadata exceeds 64 KiB.
    """
    fields: dict[str, Any] = {
        "taskKey": task.options.key,
        "dynamicKey": options.key or str(uuid4()),
        "parameters": bound.encode(task.encode),
        "tags": list(dict.fromkeys((*task.options.tags, *options.tags))),
        **_task_fields(task.options, bound),
        **_call_fields(options, now),
        **_context_fields(options),
    }
    return Call(task, {name: value for name, value in fields.items() if value not in (None, [])})


def _task_fields(options: TaskOptions, bound: BoundArguments) -> dict[str, Any]:
    cache_key = options.cache_key
    return {
        "taskVersion": options.version or distribution_version(bound.module),
        "retryPolicy": options.retries.as_input(),
        "timeoutSeconds": None if options.timeout is None else options.timeout + SERVER_TIMEOUT_MARGIN,
        "cacheKey": cache_key(bound.with_defaults()) if callable(cache_key) else cache_key,
        "name": None if options.name is None else options.name.format_map(bound.with_defaults()),
    }


def _call_fields(options: CallOptions, now: Callable[[], datetime]) -> dict[str, Any]:
    state: dict[str, Any] = {"type": "SCHEDULED"}
    if options.at is not None:
        state["details"] = {"scheduledTime": options.at.isoformat()}
    expires = options.expires
    expires_at = now() + expires if isinstance(expires, timedelta) else expires
    return {
        "state": state,
        "delaySeconds": options.delay,
        "priority": options.priority,
        "expiresAt": None if expires_at is None else expires_at.isoformat(),
        "uniqueKey": options.unique,
        "metadata": None if options.metadata is None else _encode_metadata(options.metadata),
    }


def _encode_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    encoded: dict[str, Any] = encode(dict(metadata))
    size = len(orjson.dumps(encoded))
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"`metadata` must not exceed {MAX_METADATA_BYTES:,} bytes of JSON; got {size:,}.")
    return encoded


def _context_fields(options: CallOptions) -> dict[str, Any]:
    run = current_run(None)
    parent = run if run is not None and options.parent and run.enqueue_parent else None
    return {
        "taskInputs": None if parent is None else {"__parent__": [{"input_type": "task_run", "id": parent.id}]},
        "traceParent": options.trace_parent or current_trace_parent(run),
    }
