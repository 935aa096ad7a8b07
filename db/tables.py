"""Tables and indexes, with the reason for each index.

Columns contain values in the form of responses. On SQLite, ids are 36-character text, timestamps are the fixed-width
text of `db.runtime.timestamps`, and JSON is text. On PostgreSQL all three are native types, which its connections send
and receive as the same text.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, TIMESTAMP, UUID

from db.enums import StateType
from db.sql.statement import LongText

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Id = String(36).with_variant(UUID(as_uuid=False), "postgresql")
Timestamp = String(27).with_variant(TIMESTAMP(timezone=True), "postgresql")
Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Text of at most a few thousand characters, sorted by code point on both databases."""
UnboundedText = LongText().with_variant(Text(collation="C"), "postgresql")
"""Text of any length, sorted as `Key`."""
Json = LongText().with_variant(JSON(), "postgresql")
"""A JSON document, stored unchanged."""
Tags = LongText().with_variant(JSONB(), "postgresql")
"""A list of strings that can be searched for a string."""


def _identity_columns() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        Column("id", Id, primary_key=True),
        Column("created", Timestamp, nullable=False),
        Column("updated", Timestamp, nullable=False),
    )


def _progress_columns() -> tuple[Column[str] | Column[int] | Column[float], ...]:
    """Return columns with a copy of a run's current state, and with totals of its states.

    They precede all columns that can be long: a database reads a row from its beginning up to the last column it needs.
    """
    return (
        Column("run_count", Integer, nullable=False),
        Column("total_run_time_seconds", Float, nullable=False),
        Column("expected_start_time", Timestamp),
        Column("state_timestamp", Timestamp),
        Column("state_id", Id),
        Column("start_time", Timestamp),
        Column("end_time", Timestamp),
        Column("next_scheduled_start_time", Timestamp),
        Column("state_type", String(16)),
        Column("state_name", UnboundedText),
    )


def _state_columns(owner: str) -> tuple[Column[str], ...]:
    return (
        Column("id", Id, primary_key=True),
        Column("run_id", Id, ForeignKey(f"{owner}.id", ondelete="CASCADE"), nullable=False),
        Column("type", String(16), nullable=False),
        Column("name", UnboundedText, nullable=False),
        Column("timestamp", Timestamp, nullable=False),
        Column("message", UnboundedText),
        Column("data", Json),
        # Contains only the fields of StateDetails that are set.
        Column("details", Json, nullable=False),
        # A copy from the details, for the unique index.
        Column("transition_id", Id),
    )


def _actor_column() -> Column[str]:
    """Return the column with the name of the token whose request set the state."""
    return Column("actor", UnboundedText)


def _priority_column() -> Column[int]:
    # The default serves rows of earlier versions, which are not written again.
    return Column("priority", Integer, nullable=False, server_default=text("0"))


# Written as NOT IN, because SQLite would use an index on state_type for an IN.
_UNFINISHED = ", ".join(f"'{type}'" for type in StateType if not type.is_terminal)
HAS_ENDED = f"state_type NOT IN ({_UNFINISHED})"
HAS_NOT_ENDED = f"state_type IN ({_UNFINISHED})"
IS_STOPPED = "state_type IN ('CANCELLED', 'CRASHED')"
IN_BACKGROUND = "flow_run_id IS NULL"
CAN_EXPIRE = "expires_at IS NOT NULL AND start_time IS NULL AND state_type IN ('SCHEDULED', 'PENDING', 'PAUSED')"
HOLDS_UNIQUE_KEY = f"unique_key IS NOT NULL AND {HAS_NOT_ENDED}"

flow = Table(
    "flow",
    metadata,
    *_identity_columns(),
    Column("name", Key, nullable=False, unique=True),
    Column("tags", Tags, nullable=False),
)
# Lists by creation time. Lists by name use the unique index.
Index("ix_flow_created_id", flow.c.created, flow.c.id)

deployment = Table(
    "deployment",
    metadata,
    *_identity_columns(),
    Column("name", Key, nullable=False),
    Column("flow_id", Id, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    Column("tags", Tags, nullable=False),
    Column("work_queue_name", UnboundedText),
    Column("is_schedule_active", Boolean, nullable=False),
    UniqueConstraint("flow_id", "name"),
)
# Lists by name and by creation time.
Index("ix_deployment_name_id", deployment.c.name, deployment.c.id)
Index("ix_deployment_created_id", deployment.c.created, deployment.c.id)

flow_run = Table(
    "flow_run",
    metadata,
    *_identity_columns(),
    *_progress_columns(),
    Column("flow_id", Id, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: a run keeps the id of its deployment after the deployment is deleted.
    Column("deployment_id", Id),
    Column("parent_task_run_id", Id, ForeignKey("task_run.id", ondelete="SET NULL", use_alter=True)),
    Column("name", UnboundedText, nullable=False),
    Column("work_queue_name", UnboundedText),
    Column("flow_version", UnboundedText),
    Column("idempotency_key", Key),
    Column("retries", Integer),
    Column("retry_delay_seconds", Float),
    Column("resuming", Boolean, nullable=False),
    Column("pause_keys", Json, nullable=False),
    Column("tags", Tags, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("context", Json, nullable=False),
    # Creating a run with a known key returns the existing run.
    UniqueConstraint("flow_id", "idempotency_key"),
)
# The flow runs of a flow, newest first.
Index("ix_flow_run_flow_id_id", flow_run.c.flow_id, flow_run.c.id)
# The flow runs of a deployment, which deleting the deployment looks up.
Index("ix_flow_run_deployment_id", flow_run.c.deployment_id)
# The subflow of a task run; also serves ON DELETE SET NULL.
Index("ix_flow_run_parent_task_run_id", flow_run.c.parent_task_run_id)
# Ended runs by end time, because pruning deletes the oldest first. The index costs nothing for runs that have not
# ended.
Index(
    "ix_flow_run_ended",
    flow_run.c.state_timestamp,
    sqlite_where=text(HAS_ENDED),
    postgresql_where=text(HAS_ENDED),
)
# Flow runs that have not ended: paused ones, for their timeouts, and subflows, for flow runs that have been cancelled.
Index(
    "ix_flow_run_unfinished",
    flow_run.c.state_type,
    flow_run.c.parent_task_run_id,
    sqlite_where=text(HAS_NOT_ENDED),
    postgresql_where=text(HAS_NOT_ENDED),
)
# CANCELLED and CRASHED flow runs by time, for ending their task runs.
Index(
    "ix_flow_run_stopped",
    flow_run.c.state_timestamp,
    sqlite_where=text(IS_STOPPED),
    postgresql_where=text(IS_STOPPED),
)

task_run = Table(
    "task_run",
    metadata,
    *_identity_columns(),
    Column("flow_run_run_count", Integer, nullable=False),
    # Seconds from the expected to the actual start; null until the start. Stored because a history sums it over many
    # runs and would spend most of its time on calculating it.
    Column("start_delay_seconds", Float),
    *_progress_columns(),
    Column("flow_run_id", Id, ForeignKey("flow_run.id", ondelete="CASCADE")),
    Column("task_key", Key, nullable=False),
    Column("dynamic_key", Key, nullable=False),
    Column("name", UnboundedText, nullable=False),
    Column("task_version", UnboundedText),
    Column("cache_key", Key),
    Column("cache_expiration", Timestamp),
    Column("retries", Integer),
    Column("retry_delay_seconds", Json),
    Column("retry_jitter_factor", Float),
    # The span of the request that created the run: `traceparent` of W3C Trace Context.
    Column("trace_parent", String(55)),
    Column("tags", Tags, nullable=False),
    Column("task_inputs", Json, nullable=False),
    Column("parameters", Json),
    _priority_column(),
    Column("expires_at", Timestamp),
    Column("timeout_seconds", Float),
    Column("unique_key", Key),
    Column("metadata", Json),
    Column("progress", Json),
    # Former tags whose slots the run may still hold, because its tags were changed while it was RUNNING or CANCELLING.
    Column("slot_tags", Json),
)
# Two partial indexes make (flow run, task key, dynamic key) unique, because a single unique index over all three treats
# the nulls of background runs as distinct. The first also serves the task runs of a flow run, and ON DELETE CASCADE.
Index(
    "uq_task_run_in_flow_run",
    task_run.c.flow_run_id,
    task_run.c.task_key,
    task_run.c.dynamic_key,
    unique=True,
    sqlite_where=task_run.c.flow_run_id.is_not(None),
    postgresql_where=task_run.c.flow_run_id.is_not(None),
)
Index(
    "uq_task_run_in_background",
    task_run.c.task_key,
    task_run.c.dynamic_key,
    unique=True,
    sqlite_where=task_run.c.flow_run_id.is_(None),
    postgresql_where=task_run.c.flow_run_id.is_(None),
)
# At most one run that has not ended has a unique key. Costs nothing for runs without one, and for ended runs.
Index(
    "uq_task_run_unique_key",
    task_run.c.task_key,
    task_run.c.unique_key,
    unique=True,
    sqlite_where=text(HOLDS_UNIQUE_KEY),
    postgresql_where=text(HOLDS_UNIQUE_KEY),
)
# Lists of runs with one task key, and of runs in one state type, newest first.
Index("ix_task_run_task_key_id", task_run.c.task_key, task_run.c.id)
Index("ix_task_run_state_type_id", task_run.c.state_type, task_run.c.id)


def _add_time_index(name: str, time: Column[str], *prefix: Column[str]) -> None:
    """Add an index on a time for both sort directions. Nulls sort lowest, as in `db.query.pagination`."""
    Index(name, *prefix, time, task_run.c.id).ddl_if(dialect="sqlite")
    Index(name, *prefix, time.asc().nulls_first(), task_run.c.id).ddl_if(dialect="postgresql")


# Lists by start time: of all runs, and of runs in one state type.
_add_time_index("ix_task_run_start_time", task_run.c.start_time)
_add_time_index("ix_task_run_state_type_start_time", task_run.c.start_time, task_run.c.state_type)
# Lists by end time. Without the index, a page of 200,000 runs takes 280 ms; with it, creating and ending a run takes no
# measurably longer.
_add_time_index("ix_task_run_end_time", task_run.c.end_time)
# Runs that are expected to start within an interval, which PostgreSQL's history counts; and lists in that order.
_add_time_index("ix_task_run_expected_start_time", task_run.c.expected_start_time)
# Runs in one state that are expected to start within an interval, for SQLite's history. The index covers all columns
# that a history without a filter sums, and no row is read; PostgreSQL would read the rows regardless.
Index(
    "ix_task_run_state_expected_start_time",
    task_run.c.state_type,
    task_run.c.state_name,
    task_run.c.expected_start_time,
    task_run.c.state_timestamp,
    task_run.c.total_run_time_seconds,
    task_run.c.start_delay_seconds,
).ddl_if(dialect="sqlite")
# Ended background runs by end time, for pruning. The other task runs are deleted with their flow run.
Index(
    "ix_task_run_ended",
    task_run.c.state_timestamp,
    sqlite_where=text(f"{IN_BACKGROUND} AND {HAS_ENDED}"),
    postgresql_where=text(f"{IN_BACKGROUND} AND {HAS_ENDED}"),
)
# Background runs that expire unless they start, for the deadline sweeper. Costs nothing for runs without an expiry.
Index(
    "ix_task_run_expiring",
    task_run.c.expires_at,
    sqlite_where=text(CAN_EXPIRE),
    postgresql_where=text(CAN_EXPIRE),
)
# Task runs of flow runs that have not ended, for ending those of stopped flow runs. Costs nothing for ended runs.
Index(
    "ix_task_run_unfinished_in_flow_run",
    task_run.c.flow_run_id,
    sqlite_where=text(f"flow_run_id IS NOT NULL AND {HAS_NOT_ENDED}"),
    postgresql_where=text(f"flow_run_id IS NOT NULL AND {HAS_NOT_ENDED}"),
)
# Runs with a tag. SQLite cannot index the elements of a list.
Index("ix_task_run_tags", task_run.c.tags, postgresql_using="gin").ddl_if(dialect="postgresql")

task_run_state = Table(
    "task_run_state",
    metadata,
    *_state_columns("task_run"),
    # Position in the feed on PostgreSQL: see db.statements.state_changes. Null on SQLite, where the id is the position.
    Column("written_in", BigInteger),
    _actor_column(),
)
# State changes in the order of the feed.
Index("ix_task_run_state_written_in_id", task_run_state.c.written_in, task_run_state.c.id).ddl_if(dialect="postgresql")
# The states of a run, oldest first.
Index("ix_task_run_state_run_id_timestamp", task_run_state.c.run_id, task_run_state.c.timestamp)
# A run applies each transition id once, which makes state changes idempotent.
Index("uq_task_run_state_transition", task_run_state.c.run_id, task_run_state.c.transition_id, unique=True)

flow_run_state = Table("flow_run_state", metadata, *_state_columns("flow_run"), _actor_column())
Index("ix_flow_run_state_run_id_timestamp", flow_run_state.c.run_id, flow_run_state.c.timestamp)
Index("uq_flow_run_state_transition", flow_run_state.c.run_id, flow_run_state.c.transition_id, unique=True)

task_run_state_cache = Table(
    "task_run_state_cache",
    metadata,
    # A foreign key to the state, because deleting a run must delete its cached results.
    Column("task_run_state_id", Id, ForeignKey("task_run_state.id", ondelete="CASCADE"), primary_key=True),
    Column("cache_key", Key, nullable=False),
    Column("cache_expiration", Timestamp),
    Column("created", Timestamp, nullable=False),
)
# The newest result with a cache key.
Index("ix_task_run_state_cache_cache_key_created", task_run_state_cache.c.cache_key, task_run_state_cache.c.created)

concurrency_limit = Table(
    "concurrency_limit",
    metadata,
    *_identity_columns(),
    Column("tag", Key, nullable=False, unique=True),
    Column("limit", Integer, nullable=False),
)

concurrency_slot = Table(
    "concurrency_slot",
    metadata,
    # Foreign keys to both owners, because deleting the limit or the run must free the slot.
    Column("limit_id", Id, ForeignKey("concurrency_limit.id", ondelete="CASCADE"), primary_key=True),
    Column("task_run_id", Id, ForeignKey("task_run.id", ondelete="CASCADE"), primary_key=True),
    Column("acquired_at", Timestamp, nullable=False),
)
# The slots of a run, for freeing them.
Index("ix_concurrency_slot_task_run_id", concurrency_slot.c.task_run_id)

heartbeat = Table(
    "heartbeat",
    metadata,
    # Always 1: the table has at most one row.
    Column("id", Integer, primary_key=True, autoincrement=False),
    # When a server last reported that it was running.
    Column("at", Timestamp, nullable=False),
)

server_workers = Table(
    "server_workers",
    metadata,
    # One row for each server that shares the database.
    Column("server_id", Id, primary_key=True),
    # When the server last recorded its workers.
    Column("recorded_at", Timestamp, nullable=False),
    # The connected workers: a list of their names and task keys.
    Column("workers", Json, nullable=False),
)

queue_entry = Table(
    "queue_entry",
    metadata,
    # One row for each run that waits for a worker or is leased to one.
    Column("task_run_id", Id, ForeignKey("task_run.id", ondelete="CASCADE"), primary_key=True),
    Column("task_key", Key, nullable=False),
    Column("is_retry", Boolean, nullable=False),
    Column("available_at", Timestamp, nullable=False),
    # Number of deliveries.
    Column("attempt", Integer, nullable=False),
    Column("lease_id", Id, unique=True),
    Column("lease_seconds", Float),
    Column("lease_expires_at", Timestamp),
    # Whether the worker has acknowledged the delivery.
    Column("is_acknowledged", Boolean, nullable=False),
    Column("worker_name", UnboundedText),
    # Number of consecutive deliveries that ended with a lost worker.
    Column("lapses", Integer, nullable=False),
    # Whether `waits_for_tag` is set. A column of its own, because PostgreSQL does not sort by the rest of an index that
    # is searched for nulls.
    Column("waits_for_slot", Boolean, nullable=False),
    # Tag of the concurrency limit whose slot the run waits for. Such a run is not due before a slot wakes it.
    Column("waits_for_tag", Key),
    # A copy from the run, for the order of claims.
    _priority_column(),
    # When the run is ended because it has been RUNNING for too long under this lease.
    Column("times_out_at", Timestamp),
    # A copy from the run: when it is cancelled unless it has started. Null after the start.
    Column("expires_at", Timestamp),
)
# Waiting runs of a task key, each priority of each side by due time: for claims, and for the timer of the next due run.
# Runs that wait for a slot are not due, and claims do not read them.
Index(
    "ix_queue_entry_waiting",
    queue_entry.c.task_key,
    queue_entry.c.is_retry,
    queue_entry.c.waits_for_slot,
    queue_entry.c.priority,
    queue_entry.c.available_at,
    queue_entry.c.task_run_id,
    sqlite_where=queue_entry.c.lease_id.is_(None),
    postgresql_where=queue_entry.c.lease_id.is_(None),
)
# Runs that wait for a concurrency slot, by tag and task key: to wake the first of each key, and to count them.
Index(
    "ix_queue_entry_waiting_for_slot",
    queue_entry.c.waits_for_tag,
    queue_entry.c.task_key,
    queue_entry.c.priority.desc(),
    queue_entry.c.available_at,
    queue_entry.c.task_run_id,
    sqlite_where=queue_entry.c.waits_for_tag.is_not(None),
    postgresql_where=queue_entry.c.waits_for_tag.is_not(None),
)
# Leases by expiry, for the lease sweeper.
Index(
    "ix_queue_entry_leased",
    queue_entry.c.lease_expires_at,
    sqlite_where=queue_entry.c.lease_id.is_not(None),
    postgresql_where=queue_entry.c.lease_id.is_not(None),
)

# Runs with a time limit by the end of it, for the deadline sweeper. Costs nothing for runs without one.
Index(
    "ix_queue_entry_timed",
    queue_entry.c.times_out_at,
    sqlite_where=queue_entry.c.times_out_at.is_not(None),
    postgresql_where=queue_entry.c.times_out_at.is_not(None),
)

# Claims deliver no runs of these task keys. Most keys with runs have no row, and a key without runs may have one.
paused_queue = Table(
    "paused_queue",
    metadata,
    Column("task_key", Key, primary_key=True),
    Column("paused_at", Timestamp, nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    # The public part of a token, by which the server looks it up and people refer to it.
    Column("id", Key, primary_key=True),
    Column("created", Timestamp, nullable=False),
    Column("name", UnboundedText),
    # Separated by spaces.
    Column("scopes", Key, nullable=False),
    # SHA-256 without salt or stretching, because 256 random bits cannot be guessed.
    Column("secret_hash", String(64), nullable=False),
    Column("expires_at", Timestamp),
    Column("revoked_at", Timestamp),
    # Updated at most once an hour, because authentication must not cost a write.
    Column("last_used_at", Timestamp),
)
