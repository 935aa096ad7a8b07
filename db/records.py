"""Records: the rows of each table as typed values, whose fields are the columns in their order.

Timestamps are text, as in `db.runtime.timestamps`. JSON columns are `JsonText`, which responses contain without
parsing; properties parse the few columns that have a structure. Records are values: changing one writes nothing.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

from db.enums import TERMINAL, StateType
from db.runtime.timestamps import seconds_between

JsonText = str
"""A JSON document as text, stored and returned unchanged."""


def to_json(value: object) -> JsonText:
    """Serialize a JSON value. Raises ValueError for values that JSON, or a 64-bit integer, cannot represent."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise ValueError(str(error)) from error


@dataclass(slots=True)
class StateDetails:
    """Details of a state besides its type and name. Stored as JSON of the fields that are set."""

    flow_run_id: str | None = None
    task_run_id: str | None = None
    child_flow_run_id: str | None = None
    scheduled_time: str | None = None
    cache_key: str | None = None
    cache_expires_at: str | None = None
    refresh_cache: bool | None = None
    transition_id: str | None = None
    pause_timeout_at: str | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: Any = None
    retriable: bool | None = None
    untrackable_result: bool = False
    task_parameters_id: str | None = None

    def to_json(self) -> JsonText:
        """Serialize the fields that differ from their defaults: a few bytes for most states."""
        return to_json({name: value for name, default in _DETAILS if (value := getattr(self, name)) != default})

    @classmethod
    def from_json(cls, text: JsonText) -> "StateDetails":
        return cls(**orjson.loads(text))


_DETAILS = tuple((each.name, each.default) for each in fields(StateDetails))


@dataclass(slots=True)
class StateRecord:
    """One state that a run has had. Never changes after it is written."""

    id: str
    run_id: str
    type: StateType
    name: str
    timestamp: str
    message: str | None
    data: JsonText | None
    details_json: JsonText
    transition_id: str | None
    actor: str | None = None
    """Name of the token whose request set the state; None when the server set it, or without tokens."""

    @property
    def details(self) -> StateDetails:
        return StateDetails.from_json(self.details_json)


@dataclass(slots=True)
class TaskRunPolicy:
    """Retry policy of a task run: how often and after which delays it is retried when it fails."""

    retries: int | None = None
    retry_delay_seconds: list[float] | None = None
    retry_jitter_factor: float | None = None


@dataclass(slots=True)
class FlowRunPolicy:
    """Retry policy of a flow run: how often and after which delay it is retried when it fails."""

    retries: int | None = None
    retry_delay_seconds: float | None = None


@dataclass(slots=True)
class RunRecord:
    """Fields common to task runs and flow runs: identity, current state and progress."""

    id: str
    created: str
    updated: str
    name: str
    tags_json: JsonText
    state_id: str | None
    state_type: StateType | None
    state_name: str | None
    state_timestamp: str | None
    run_count: int
    expected_start_time: str | None
    next_scheduled_start_time: str | None
    start_time: str | None
    end_time: str | None
    total_run_time_seconds: float

    state: StateRecord | None = field(default=None, kw_only=True)
    """The current state, joined from the table of states."""
    read_at: str = field(default="", kw_only=True)
    """When the record was read. Estimates are calculated up to this time."""

    @property
    def tags(self) -> list[str]:
        return orjson.loads(self.tags_json)

    @property
    def estimated_run_time_seconds(self) -> float:
        """Seconds spent RUNNING, up to `read_at`."""
        return estimate_run_time(self.total_run_time_seconds, self.state_type, self.state_timestamp, self.read_at)

    @property
    def estimated_start_time_delta_seconds(self) -> float:
        """Delay of the start in seconds; for a run that has not started, the delay so far. Never negative."""
        return estimate_lateness(self.expected_start_time, self.start_time, self.state_type, self.read_at)


_RUNNING = StateType.RUNNING


def estimate_run_time(total: float, state_type: str | None, state_timestamp: str | None, now: str) -> float:
    """Return `total`, the seconds in past RUNNING states, plus the seconds in the current state when it is RUNNING.

    Never negative, also after the clock was set back.
    """
    if state_type == _RUNNING and state_timestamp is not None:
        return max(0.0, total + max(0.0, seconds_between(state_timestamp, now)))
    return total


def estimate_lateness(expected: str | None, start: str | None, state_type: str | None, now: str) -> float:
    """Return the seconds from the expected to the actual start; up to `now` for a run that has not started.

    Zero when the run has no expected start, or has ended without starting. Never negative.
    """
    if expected is None:
        return 0.0
    if start is not None:
        return max(0.0, seconds_between(expected, start))
    if state_type in TERMINAL:
        return 0.0
    return max(0.0, seconds_between(expected, now))


@dataclass(slots=True)
class TaskRunRecord(RunRecord):
    """One execution of a task, in a flow run or as a background run."""

    task_key: str
    dynamic_key: str
    flow_run_id: str | None
    task_version: str | None
    cache_key: str | None
    cache_expiration: str | None
    retries: int | None
    retry_delay_seconds_json: JsonText | None
    retry_jitter_factor: float | None
    task_inputs: JsonText
    parameters: JsonText | None
    flow_run_run_count: int
    trace_parent: str | None = None
    priority: int = 0
    expires_at: str | None = None
    """When the run is cancelled unless it has started; None for no expiry."""
    timeout_seconds: float | None = None
    unique_key: str | None = None
    metadata: JsonText | None = None
    """A JSON object that clients set; None when it is not set."""
    progress_json: JsonText | None = None
    """The progress that the worker reported last; None when it has not reported any."""
    slot_tags_json: JsonText | None = None
    """Former tags whose slots the run may still hold; None unless its tags were changed while it held slots."""

    loaded_queue_entry: "list[QueueEntryRecord] | None" = field(default=None, kw_only=True)
    """The run's queue entry, as a list of at most one; None when it was not loaded."""

    @property
    def progress(self) -> "TaskRunProgress | None":
        return task_run_progress(self.progress_json)

    @property
    def limiting_tags(self) -> set[str]:
        """The tags whose slots the run may hold: its tags, and former tags of which it has kept the slots."""
        return {*self.tags, *self.slot_tags}

    @property
    def slot_tags(self) -> list[str]:
        return [] if self.slot_tags_json is None else orjson.loads(self.slot_tags_json)

    @property
    def start_delay_seconds(self) -> float | None:
        """Delay of the start in seconds, never negative; None when the run has not started."""
        if self.start_time is None:
            return None
        return estimate_lateness(self.expected_start_time, self.start_time, self.state_type, self.start_time)

    @property
    def retry_policy(self) -> TaskRunPolicy:
        return task_run_retry_policy(self.retries, self.retry_delay_seconds_json, self.retry_jitter_factor)


def task_run_retry_policy(retries: int | None, delays: JsonText | None, jitter_factor: float | None) -> TaskRunPolicy:
    """Build the retry policy from the columns of a task run."""
    return TaskRunPolicy(retries, None if delays is None else orjson.loads(delays), jitter_factor)


@dataclass(slots=True)
class TaskRunProgress:
    """How far the worker of a task run has come, as it reported last. Stored as JSON of the fields."""

    done: float
    total: float | None
    message: str | None
    updated_at: str
    """When the server received the report."""

    def to_json(self) -> JsonText:
        return to_json(asdict(self))


def task_run_progress(text: JsonText | None) -> TaskRunProgress | None:
    """Build the progress of a task run from its column."""
    return None if text is None else TaskRunProgress(**orjson.loads(text))


@dataclass(slots=True)
class FlowRunRecord(RunRecord):
    """One execution of a flow."""

    flow_id: str
    deployment_id: str | None
    work_queue_name: str | None
    flow_version: str | None
    idempotency_key: str | None
    parameters: JsonText
    context: JsonText
    retries: int | None
    retry_delay_seconds: float | None
    pause_keys_json: JsonText
    resuming: bool
    parent_task_run_id: str | None

    @property
    def retry_policy(self) -> FlowRunPolicy:
        return flow_run_retry_policy(self.retries, self.retry_delay_seconds)

    @property
    def pause_keys(self) -> list[str]:
        return orjson.loads(self.pause_keys_json)


def flow_run_retry_policy(retries: int | None, delay_seconds: float | None) -> FlowRunPolicy:
    """Build the retry policy from the columns of a flow run."""
    return FlowRunPolicy(retries, delay_seconds)


@dataclass(slots=True)
class FlowRecord:
    """A program whose executions are flow runs."""

    id: str
    created: str
    updated: str
    name: str
    tags_json: JsonText

    @property
    def tags(self) -> list[str]:
        return orjson.loads(self.tags_json)


@dataclass(slots=True)
class DeploymentRecord:
    """One configured way of running a flow."""

    id: str
    created: str
    updated: str
    name: str
    flow_id: str
    tags_json: JsonText
    work_queue_name: str | None
    is_schedule_active: bool

    @property
    def tags(self) -> list[str]:
        return orjson.loads(self.tags_json)


@dataclass(slots=True)
class ConcurrencyLimitRecord:
    """How many task runs with a tag may be RUNNING at a time."""

    id: str
    created: str
    updated: str
    tag: str
    limit: int


@dataclass(slots=True)
class ConcurrencySlotRecord:
    """A slot of a concurrency limit, held by a task run."""

    limit_id: str
    task_run_id: str
    acquired_at: str


@dataclass(slots=True)
class QueueEntryRecord:
    """A background run in its queue, with its lease when a worker holds one."""

    task_run_id: str
    task_key: str
    is_retry: bool
    available_at: str
    attempt: int
    lease_id: str | None
    lease_seconds: float | None
    lease_expires_at: str | None
    is_acknowledged: bool
    worker_name: str | None
    lapses: int = 0
    waits_for_tag: str | None = None
    """Tag of the concurrency limit whose slot the run waits for. Such a run is not due, whatever `available_at` is."""
    priority: int = 0
    """Priority of the run, from -10 to 10."""
    times_out_at: str | None = None
    """When the run has been RUNNING for its `timeout_seconds` under this lease; None while it is not timed."""
    expires_at: str | None = None
    """When the run expires; None when it does not, or has started."""
    has_tags: bool = field(default=False, kw_only=True)
    """Whether the run has tags. Read only for due entries."""
    cache_key: str | None = field(default=None, kw_only=True)
    """Cache key of the run. Read only for due entries of claims that start runs."""

    @property
    def waits_for_slot(self) -> bool:
        return self.waits_for_tag is not None


@dataclass(slots=True)
class QueueStats:
    """Queue statistics of a task key."""

    task_key: str
    scheduled: int = 0
    """Number of due runs on the scheduled side."""
    retry: int = 0
    """Number of due runs on the retry side."""
    delayed: int = 0
    """Number of runs on both sides that are due later."""
    leased: int = 0
    """Number of runs that are leased to a worker."""
    oldest_due_at: str | None = None
    """Since when the longest waiting run has been due."""


@dataclass(slots=True)
class TokenRecord:
    """An API token, without its secret."""

    id: str
    created: str
    name: str | None
    scopes: str
    """Values of `Scope`, separated by spaces."""
    secret_hash: str
    """SHA-256 of the secret, in hexadecimal."""
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    """When the token last authenticated a request, updated at most once an hour; None when it never did."""

    def is_valid(self, now: str) -> bool:
        """Return whether the token is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
