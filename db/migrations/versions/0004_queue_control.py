"""Add priority, expiry, timeouts, unique keys, metadata and progress of task runs, actors, paused queues, workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Id = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Instant = sa.String(27).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
Words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.Text().with_variant(postgresql.JSON(), "postgresql")

HOLDS_UNIQUE_KEY = (
    "unique_key IS NOT NULL AND state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING')"
)
CAN_EXPIRE = "expires_at IS NOT NULL AND start_time IS NULL AND state_type IN ('SCHEDULED', 'PENDING', 'PAUSED')"
WAITING_COLUMNS: "list[str | sa.TextClause]" = [
    "task_key",
    "is_retry",
    "waits_for_slot",
    "priority",
    "available_at",
    "task_run_id",
]

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Neither database writes the existing rows again for a column that is null or has a constant default.
    op.add_column("task_run", _priority())
    op.add_column("task_run", sa.Column("expires_at", Instant))
    op.add_column("task_run", sa.Column("timeout_seconds", sa.Float()))
    op.add_column("task_run", sa.Column("unique_key", Words))
    op.add_column("task_run", sa.Column("metadata", Json))
    op.add_column("task_run", sa.Column("progress", Json))
    op.add_column("task_run", sa.Column("slot_tags", Json))
    op.add_column("queue_entry", _priority())
    op.add_column("queue_entry", sa.Column("times_out_at", Instant))
    op.add_column("queue_entry", sa.Column("expires_at", Instant))
    op.add_column("task_run_state", sa.Column("actor", Words))
    op.add_column("flow_run_state", sa.Column("actor", Words))
    op.create_table(
        "paused_queue",
        sa.Column("task_key", Words, nullable=False),
        sa.Column("paused_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("task_key", name="pk_paused_queue"),
    )
    op.create_table(
        "server_workers",
        sa.Column("server_id", Id, nullable=False),
        sa.Column("recorded_at", Instant, nullable=False),
        sa.Column("workers", Json, nullable=False),
        sa.PrimaryKeyConstraint("server_id", name="pk_server_workers"),
    )
    op.create_index(
        "uq_task_run_unique_key",
        "task_run",
        ["task_key", "unique_key"],
        unique=True,
        sqlite_where=sa.text(HOLDS_UNIQUE_KEY),
        postgresql_where=sa.text(HOLDS_UNIQUE_KEY),
    )
    _create_partial_index("ix_task_run_expiring", "task_run", ["expires_at"], CAN_EXPIRE)
    _create_partial_index("ix_queue_entry_timed", "queue_entry", ["times_out_at"], "times_out_at IS NOT NULL")
    # Claims and the waiters for a slot are sorted by priority now.
    op.drop_index("ix_queue_entry_waiting", "queue_entry")
    _create_partial_index("ix_queue_entry_waiting", "queue_entry", WAITING_COLUMNS, "lease_id IS NULL")
    op.drop_index("ix_queue_entry_waiting_for_slot", "queue_entry")
    _create_partial_index(
        "ix_queue_entry_waiting_for_slot",
        "queue_entry",
        ["waits_for_tag", "task_key", sa.text("priority DESC"), "available_at", "task_run_id"],
        "waits_for_tag IS NOT NULL",
    )


def _create_partial_index(name: str, table: str, columns: "list[str | sa.TextClause]", condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _priority() -> "sa.Column[int]":
    return sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0"))
