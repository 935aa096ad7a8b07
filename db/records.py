"""What rows look like from above: one record a table, its fields the columns in their order, typed and as answered.

Instants are the text of `db.runtime.timestamps`; JSON columns are JSON text (`…_json`, or a name that says it), which goes into an
answer without being read; properties read the few that have a structure. Records are values: changing one writes nothing.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from db.enums import TERMINAL, StateType
from db.runtime.timestamps import seconds_between

JsonText = str
"""A JSON document as text, kept and answered as it is."""


def to_json(value: object) -> JsonText:
    """The text of a JSON value. ValueError for what JSON, or a 64-bit integer, can not say."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise ValueError(str(error)) from error


@dataclass(slots=True)
class StateDetails:
    """What a state carries beside its type and name; stored as JSON of what is set."""

    flow_run_id: str | None = None
    task_run_id: str | None = None
    child_flow_run_id: str | None = None
    scheduled_time: str | None = None
    cache_key: str | None = None
    cache_expiration: str | None = None
    refresh_cache: bool | None = None
    transition_id: str | None = None
    pause_timeout: str | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: Any = None
    retriable: bool | None = None
    untrackable_result: bool = False
    task_parameters_id: str | None = None

    def to_json(self) -> JsonText:
        """What differs from the defaults, so that most states carry a few bytes."""
        return to_json({name: value for name, default in _DETAILS if (value := getattr(self, name)) != default})

    @classmethod
    def from_json(cls, text: JsonText) -> "StateDetails":
        return cls(**orjson.loads(text))


_DETAILS = tuple((each.name, each.default) for each in fields(StateDetails))


@dataclass(slots=True)
class StateRecord:
    """One state that a run has had. Never changed once it is written."""

    id: str
    run_id: str
    type: StateType
    name: str
    timestamp: str
    message: str | None
    data: JsonText | None
    details_json: JsonText
    transition_id: str | None

    @property
    def details(self) -> StateDetails:
        return StateDetails.from_json(self.details_json)


@dataclass(slots=True)
class TaskRunPolicy:
    """How often, and after how long, a failed task run is tried again."""

    retries: int | None = None
    retry_delay_seconds: list[float] | None = None
    retry_jitter_factor: float | None = None


@dataclass(slots=True)
class FlowRunPolicy:
    """How a failed flow run is tried again, and what its pauses have left behind."""

    retries: int | None = None
    retry_delay_seconds: float | None = None
    pause_keys: list[str] = field(default_factory=list[str])
    resuming: bool = False


@dataclass(slots=True)
class RunRecord:
    """What task runs and flow runs have in common: who they are, and where they stand."""

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
    """The current state, from a table of its own."""
    read_at: str = field(default="", kw_only=True)
    """When this was read: what the estimates are counted to."""

    @property
    def tags(self) -> list[str]:
        return orjson.loads(self.tags_json)

    @property
    def estimated_run_time_seconds(self) -> float:
        """The time spent RUNNING, up to the moment this was read."""
        return estimate_run_time(self.total_run_time_seconds, self.state_type, self.state_timestamp, self.read_at)

    @property
    def estimated_start_time_delta_seconds(self) -> float:
        """How late the run started, or how late it is while it has not; never negative."""
        return estimate_lateness(self.expected_start_time, self.start_time, self.state_type, self.read_at)


_RUNNING = StateType.RUNNING


def estimate_run_time(total: float, state_type: str | None, state_timestamp: str | None, now: str) -> float:
    """The total of what is over, and the time since the run entered the RUNNING state that it is in."""
    if state_type == _RUNNING and state_timestamp is not None:
        return total + seconds_between(state_timestamp, now)
    return total


def estimate_lateness(expected: str | None, start: str | None, state_type: str | None, now: str) -> float:
    """How late a run started, or how late it is while it has not started and may still do so."""
    if expected is None:
        return 0.0
    if start is not None:
        return max(0.0, seconds_between(expected, start))
    if state_type in TERMINAL:
        return 0.0
    return max(0.0, seconds_between(expected, now))


@dataclass(slots=True)
class TaskRunRecord(RunRecord):
    """One unit of work: of a flow run, or by itself in the background."""

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

    known_entry: "list[QueueEntryRecord] | None" = field(default=None, kw_only=True)
    """Its place in the queue, if it has one; None where that was not looked at."""

    @property
    def start_delay_seconds(self) -> float | None:
        """How late the run started, never negative; None while it has not."""
        if self.start_time is None:
            return None
        return estimate_lateness(self.expected_start_time, self.start_time, self.state_type, self.start_time)

    @property
    def empirical_policy(self) -> TaskRunPolicy:
        return task_run_policy(self.retries, self.retry_delay_seconds_json, self.retry_jitter_factor)


def task_run_policy(retries: int | None, delays: JsonText | None, jitter_factor: float | None) -> TaskRunPolicy:
    """The policy that a task run's columns say."""
    return TaskRunPolicy(retries, None if delays is None else orjson.loads(delays), jitter_factor)


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
    def empirical_policy(self) -> FlowRunPolicy:
        return flow_run_policy(self.retries, self.retry_delay_seconds, self.pause_keys_json, self.resuming)


def flow_run_policy(
    retries: int | None, delay_seconds: float | None, pause_keys: JsonText, resuming: bool
) -> FlowRunPolicy:
    """The policy that a flow run's columns say."""
    return FlowRunPolicy(retries, delay_seconds, orjson.loads(pause_keys), bool(resuming))


@dataclass(slots=True)
class FlowRecord:
    """A program whose runs are kept together."""

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
    """A way in which a flow is run: where from, and whether by schedule."""

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
    """How many task runs with a tag may run at a time."""

    id: str
    created: str
    updated: str
    tag: str
    limit: int


@dataclass(slots=True)
class QueueEntryRecord:
    """A background run's place in its queue, and who has it, if somebody has."""

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
    waits_for_slot: bool = False


@dataclass(slots=True)
class QueueFigures:
    """How much of one task key is in the queue."""

    task_key: str
    scheduled: int = 0
    """How many are due on the scheduled side."""
    retry: int = 0
    """How many are due on the retry side."""
    delayed: int = 0
    """How many are to be due later, on either side."""
    leased: int = 0
    """How many a worker has."""
    oldest_due_at: str | None = None
    """Since when the one that is due for longest could have been delivered."""


@dataclass(slots=True)
class TokenRecord:
    """An API token, without its secret."""

    id: str
    created: str
    name: str | None
    scopes: str
    """Names of `Scope`, with spaces between them."""
    secret_hash: str
    """SHA-256 of the secret, in hexadecimal."""
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    """When it let somebody in, noted once an hour; null where it never did."""

    def is_valid(self, now: str) -> bool:
        """Whether it opens anything at this instant."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
