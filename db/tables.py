"""Every table and index, with the reason for each index.

Columns hold what answers show. On SQLite ids are 36-character text, instants the fixed-width text of `db.runtime.timestamps`, and
JSON is text; on PostgreSQL all three are native types, which its connections give and take as the same texts.
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
Instant = String(27).with_variant(TIMESTAMP(timezone=True), "postgresql")
Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in the order of its code points, on both databases; of at most a few thousand characters."""
Words = LongText().with_variant(Text(collation="C"), "postgresql")
"""As `Key`, of any length."""
Json = LongText().with_variant(JSON(), "postgresql")
"""A document that is kept as it came."""
Tags = LongText().with_variant(JSONB(), "postgresql")
"""A list of texts that can be asked for one of them."""


def _identity() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        Column("id", Id, primary_key=True),
        Column("created", Instant, nullable=False),
        Column("updated", Instant, nullable=False),
    )


def _progress() -> tuple[Column[str] | Column[int] | Column[float], ...]:
    """Where a run stands: a copy of its current state, and the figures that its states have added up to.

    They come before all that can be long. A database reads a row from its beginning up to the last column that it needs.
    """
    return (
        Column("run_count", Integer, nullable=False),
        Column("total_run_time_seconds", Float, nullable=False),
        Column("expected_start_time", Instant),
        Column("state_timestamp", Instant),
        Column("state_id", Id),
        Column("start_time", Instant),
        Column("end_time", Instant),
        Column("next_scheduled_start_time", Instant),
        Column("state_type", String(16)),
        Column("state_name", Words),
    )


def _state(owner: str) -> tuple[Column[str], ...]:
    return (
        Column("id", Id, primary_key=True),
        Column("run_id", Id, ForeignKey(f"{owner}.id", ondelete="CASCADE"), nullable=False),
        Column("type", String(16), nullable=False),
        Column("name", Words, nullable=False),
        Column("timestamp", Instant, nullable=False),
        Column("message", Words),
        Column("data", Json),
        # Only what is set, under the names of StateDetails.
        Column("details", Json, nullable=False),
        # Copied out of the details, so that it can be unique.
        Column("transition_id", Id),
    )


# In these words, so that SQLite does not take it for a search by state.
HAS_ENDED = "state_type NOT IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING')"
IN_BACKGROUND = "flow_run_id IS NULL"

flow = Table(
    "flow",
    metadata,
    *_identity(),
    Column("name", Key, nullable=False, unique=True),
    Column("tags", Tags, nullable=False),
)

deployment = Table(
    "deployment",
    metadata,
    *_identity(),
    Column("name", Key, nullable=False),
    Column("flow_id", Id, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    Column("tags", Tags, nullable=False),
    Column("work_queue_name", Words),
    Column("is_schedule_active", Boolean, nullable=False),
    UniqueConstraint("flow_id", "name"),
)

flow_run = Table(
    "flow_run",
    metadata,
    *_identity(),
    *_progress(),
    Column("flow_id", Id, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: a run outlives its deployment and keeps telling where it came from.
    Column("deployment_id", Id),
    Column("parent_task_run_id", Id, ForeignKey("task_run.id", ondelete="SET NULL", use_alter=True)),
    Column("name", Words, nullable=False),
    Column("work_queue_name", Words),
    Column("flow_version", Words),
    Column("idempotency_key", Key),
    Column("retries", Integer),
    Column("retry_delay_seconds", Float),
    Column("resuming", Boolean, nullable=False),
    Column("pause_keys", Json, nullable=False),
    Column("tags", Tags, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("context", Json, nullable=False),
    # Creating with a key that is known answers the first run.
    UniqueConstraint("flow_id", "idempotency_key"),
)
# The flow runs of a flow, the latest first.
Index("ix_flow_run_flow_id_id", flow_run.c.flow_id, flow_run.c.id)
# The flow runs of a deployment, which its deletion looks for.
Index("ix_flow_run_deployment_id", flow_run.c.deployment_id)
# A task run's subflow; and what deleting a task run has to set to null.
Index("ix_flow_run_parent_task_run_id", flow_run.c.parent_task_run_id)
# What ended when: the oldest are deleted first. A run that has not ended pays nothing for it.
Index(
    "ix_flow_run_ended",
    flow_run.c.state_timestamp,
    sqlite_where=text(HAS_ENDED),
    postgresql_where=text(HAS_ENDED),
)

task_run = Table(
    "task_run",
    metadata,
    *_identity(),
    Column("flow_run_run_count", Integer, nullable=False),
    # How late it started, by its two times; null while it has not. A history sums it over many runs, and most of its time
    # would go into working it out.
    Column("start_delay_seconds", Float),
    *_progress(),
    Column("flow_run_id", Id, ForeignKey("flow_run.id", ondelete="CASCADE")),
    Column("task_key", Key, nullable=False),
    Column("dynamic_key", Key, nullable=False),
    Column("name", Words, nullable=False),
    Column("task_version", Words),
    Column("cache_key", Key),
    Column("cache_expiration", Instant),
    Column("retries", Integer),
    Column("retry_delay_seconds", Json),
    Column("retry_jitter_factor", Float),
    # The span of the request that created it, by W3C's Trace Context.
    Column("trace_parent", String(55)),
    Column("tags", Tags, nullable=False),
    Column("task_inputs", Json, nullable=False),
    Column("parameters", Json),
)
# Two partial indexes make (flow run, task key, dynamic key) unique although "no flow run" is a null: nulls differ from
# each other in one index over all three. The first also serves a flow run's task runs and the cascade from it.
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
# Pages of one task's runs, and of runs in one type of state, newest first.
Index("ix_task_run_task_key_id", task_run.c.task_key, task_run.c.id)
Index("ix_task_run_state_type_id", task_run.c.state_type, task_run.c.id)


def _by_time(name: str, time: Column[str], *first: Column[str]) -> None:
    """An index in the order of a time, which both directions walk: nulls are the least, as pages have them."""
    Index(name, *first, time, task_run.c.id).ddl_if(dialect="sqlite")
    Index(name, *first, time.asc().nulls_first(), task_run.c.id).ddl_if(dialect="postgresql")


# Pages by start time: of all runs, and of those in one type of state.
_by_time("ix_task_run_start_time", task_run.c.start_time)
_by_time("ix_task_run_state_type_start_time", task_run.c.start_time, task_run.c.state_type)
# The runs that were meant to start within a span of time, which PostgreSQL's history counts; and pages in that order.
_by_time("ix_task_run_expected_start_time", task_run.c.expected_start_time)
# SQLite's history: the runs of one kind of state that were meant to start within an interval. It has all that a history
# without a filter sums, so that no row is read; PostgreSQL would read the rows all the same.
Index(
    "ix_task_run_state_expected_start_time",
    task_run.c.state_type,
    task_run.c.state_name,
    task_run.c.expected_start_time,
    task_run.c.state_timestamp,
    task_run.c.total_run_time_seconds,
    task_run.c.start_delay_seconds,
).ddl_if(dialect="sqlite")
# What ended when, as for flow runs; the task runs of flow runs go with these.
Index(
    "ix_task_run_ended",
    task_run.c.state_timestamp,
    sqlite_where=text(f"{IN_BACKGROUND} AND {HAS_ENDED}"),
    postgresql_where=text(f"{IN_BACKGROUND} AND {HAS_ENDED}"),
)
# Runs with a tag. SQLite has no index into a list.
Index("ix_task_run_tags", task_run.c.tags, postgresql_using="gin").ddl_if(dialect="postgresql")

task_run_state = Table(
    "task_run_state",
    metadata,
    *_state("task_run"),
    # Where the feed has it, on PostgreSQL: see db.statements.state_changes. Null on SQLite, where the id says it.
    Column("written_in", BigInteger),
)
# The feed of changes, in its order.
Index("ix_task_run_state_written_in_id", task_run_state.c.written_in, task_run_state.c.id).ddl_if(dialect="postgresql")
# A run's history, oldest first.
Index("ix_task_run_state_run_id_timestamp", task_run_state.c.run_id, task_run_state.c.timestamp)
# A run takes each transition once, so that a report can be repeated.
Index("uq_task_run_state_transition", task_run_state.c.run_id, task_run_state.c.transition_id, unique=True)

flow_run_state = Table("flow_run_state", metadata, *_state("flow_run"))
Index("ix_flow_run_state_run_id_timestamp", flow_run_state.c.run_id, flow_run_state.c.timestamp)
Index("uq_flow_run_state_transition", flow_run_state.c.run_id, flow_run_state.c.transition_id, unique=True)

task_run_state_cache = Table(
    "task_run_state_cache",
    metadata,
    # The state's id, so that a deleted run takes its cached results with it.
    Column("task_run_state_id", Id, ForeignKey("task_run_state.id", ondelete="CASCADE"), primary_key=True),
    Column("cache_key", Key, nullable=False),
    Column("cache_expiration", Instant),
    Column("created", Instant, nullable=False),
)
# The newest result under a key.
Index("ix_task_run_state_cache_cache_key_created", task_run_state_cache.c.cache_key, task_run_state_cache.c.created)

concurrency_limit = Table(
    "concurrency_limit",
    metadata,
    *_identity(),
    Column("tag", Key, nullable=False, unique=True),
    Column("limit", Integer, nullable=False),
)

concurrency_slot = Table(
    "concurrency_slot",
    metadata,
    # Rows that belong to a limit and a run: nothing can leak a slot, since deleting either takes it along.
    Column("limit_id", Id, ForeignKey("concurrency_limit.id", ondelete="CASCADE"), primary_key=True),
    Column("task_run_id", Id, ForeignKey("task_run.id", ondelete="CASCADE"), primary_key=True),
)
# The slots of one run, to free them.
Index("ix_concurrency_slot_task_run_id", concurrency_slot.c.task_run_id)

queue_entry = Table(
    "queue_entry",
    metadata,
    # One row for each run that waits for a worker or is leased to one.
    Column("task_run_id", Id, ForeignKey("task_run.id", ondelete="CASCADE"), primary_key=True),
    Column("task_key", Key, nullable=False),
    Column("is_retry", Boolean, nullable=False),
    Column("available_at", Instant, nullable=False),
    # How often it has been delivered.
    Column("attempt", Integer, nullable=False),
    Column("lease_id", Id, unique=True),
    Column("lease_seconds", Float),
    Column("lease_expires_at", Instant),
    # Whether the worker has said that it has taken the run over.
    Column("is_acknowledged", Boolean, nullable=False),
    Column("worker_name", Words),
    # How many workers in a row were lost with it in hand.
    Column("lapses", Integer, nullable=False),
    # Whether it was told to wait for a concurrency slot, and is to be due as soon as one is free.
    Column("waits_for_slot", Boolean, nullable=False),
)
# What is waiting under a key, each side in order of its time: the claim, and the timer for what comes due next.
Index(
    "ix_queue_entry_waiting",
    queue_entry.c.task_key,
    queue_entry.c.is_retry,
    queue_entry.c.available_at,
    queue_entry.c.task_run_id,
    sqlite_where=queue_entry.c.lease_id.is_(None),
    postgresql_where=queue_entry.c.lease_id.is_(None),
)
# What a freed concurrency slot may make due: few at a time, among all that wait.
Index(
    "ix_queue_entry_waiting_for_slot",
    queue_entry.c.available_at,
    sqlite_where=text("waits_for_slot AND lease_id IS NULL"),
    postgresql_where=text("waits_for_slot AND lease_id IS NULL"),
)
# The leases that run out next: the sweep.
Index(
    "ix_queue_entry_leased",
    queue_entry.c.lease_expires_at,
    sqlite_where=queue_entry.c.lease_id.is_not(None),
    postgresql_where=queue_entry.c.lease_id.is_not(None),
)

api_token = Table(
    "api_token",
    metadata,
    # Not a secret: the part of a token by which it is looked up, and by which people name it.
    Column("id", Key, primary_key=True),
    Column("created", Instant, nullable=False),
    Column("name", Words),
    # With spaces between them.
    Column("scopes", Key, nullable=False),
    # SHA-256 without salt or stretching: the secret is 256 bits of chance, which nobody finds by trying.
    Column("secret_hash", String(64), nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    # Kept to the hour: letting somebody in is to cost no write.
    Column("last_used_at", Instant),
)
