"""Create the initial tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Id = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Instant = sa.String(27).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
Words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.Text().with_variant(postgresql.JSON(), "postgresql")
Tags = sa.Text().with_variant(postgresql.JSONB(), "postgresql")

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_token",
        sa.Column("id", Words, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("name", Words),
        sa.Column("scopes", Words, nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("expires_at", Instant),
        sa.Column("revoked_at", Instant),
        sa.Column("last_used_at", Instant),
        sa.PrimaryKeyConstraint("id", name="pk_api_token"),
    )
    op.create_table(
        "concurrency_limit",
        sa.Column("id", Id, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("updated", Instant, nullable=False),
        sa.Column("tag", Words, nullable=False),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_concurrency_limit"),
        sa.UniqueConstraint("tag", name="uq_concurrency_limit_tag"),
    )
    op.create_table(
        "flow",
        sa.Column("id", Id, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("updated", Instant, nullable=False),
        sa.Column("name", Words, nullable=False),
        sa.Column("tags", Tags, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flow"),
        sa.UniqueConstraint("name", name="uq_flow_name"),
    )
    op.create_table(
        "deployment",
        sa.Column("id", Id, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("updated", Instant, nullable=False),
        sa.Column("name", Words, nullable=False),
        sa.Column("flow_id", Id, nullable=False),
        sa.Column("tags", Tags, nullable=False),
        sa.Column("work_queue_name", Words),
        sa.Column("is_schedule_active", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["flow_id"], ["flow.id"], name="fk_deployment_flow_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.UniqueConstraint("flow_id", "name", name="uq_deployment_flow_id_name"),
    )
    op.create_table(
        "flow_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("updated", Instant, nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("total_run_time_seconds", sa.Float(), nullable=False),
        sa.Column("expected_start_time", Instant),
        sa.Column("state_timestamp", Instant),
        sa.Column("state_id", Id),
        sa.Column("start_time", Instant),
        sa.Column("end_time", Instant),
        sa.Column("next_scheduled_start_time", Instant),
        sa.Column("state_type", sa.String(length=16)),
        sa.Column("state_name", Words),
        sa.Column("flow_id", Id, nullable=False),
        sa.Column("deployment_id", Id),
        sa.Column("parent_task_run_id", Id),
        sa.Column("name", Words, nullable=False),
        sa.Column("work_queue_name", Words),
        sa.Column("flow_version", Words),
        sa.Column("idempotency_key", Words),
        sa.Column("retries", sa.Integer()),
        sa.Column("retry_delay_seconds", sa.Float()),
        sa.Column("resuming", sa.Boolean(), nullable=False),
        sa.Column("pause_keys", Json, nullable=False),
        sa.Column("tags", Tags, nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("context", Json, nullable=False),
        sa.ForeignKeyConstraint(["flow_id"], ["flow.id"], name="fk_flow_run_flow_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["parent_task_run_id"],
            ["task_run.id"],
            name="fk_flow_run_parent_task_run_id",
            ondelete="SET NULL",
            use_alter=True,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_flow_run"),
        sa.UniqueConstraint("flow_id", "idempotency_key", name="uq_flow_run_flow_id_idempotency_key"),
    )
    op.create_index("ix_flow_run_flow_id_id", "flow_run", ["flow_id", "id"])
    op.create_index("ix_flow_run_deployment_id", "flow_run", ["deployment_id"])
    op.create_index("ix_flow_run_parent_task_run_id", "flow_run", ["parent_task_run_id"])
    ended = "state_type NOT IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING')"
    op.create_index(
        "ix_flow_run_ended",
        "flow_run",
        ["state_timestamp"],
        sqlite_where=sa.text(ended),
        postgresql_where=sa.text(ended),
    )

    op.create_table(
        "flow_run_state",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("name", Words, nullable=False),
        sa.Column("timestamp", Instant, nullable=False),
        sa.Column("message", Words),
        sa.Column("data", Json),
        sa.Column("details", Json, nullable=False),
        sa.Column("transition_id", Id),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], name="fk_flow_run_state_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_flow_run_state"),
    )
    op.create_index("ix_flow_run_state_run_id_timestamp", "flow_run_state", ["run_id", "timestamp"])
    op.create_index("uq_flow_run_state_transition", "flow_run_state", ["run_id", "transition_id"], unique=True)

    on_postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "task_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("updated", Instant, nullable=False),
        sa.Column("flow_run_run_count", sa.Integer(), nullable=False),
        sa.Column("start_delay_seconds", sa.Float()),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("total_run_time_seconds", sa.Float(), nullable=False),
        sa.Column("expected_start_time", Instant),
        sa.Column("state_timestamp", Instant),
        sa.Column("state_id", Id),
        sa.Column("start_time", Instant),
        sa.Column("end_time", Instant),
        sa.Column("next_scheduled_start_time", Instant),
        sa.Column("state_type", sa.String(length=16)),
        sa.Column("state_name", Words),
        sa.Column("flow_run_id", Id),
        sa.Column("task_key", Words, nullable=False),
        sa.Column("dynamic_key", Words, nullable=False),
        sa.Column("name", Words, nullable=False),
        sa.Column("task_version", Words),
        sa.Column("cache_key", Words),
        sa.Column("cache_expiration", Instant),
        sa.Column("retries", sa.Integer()),
        sa.Column("retry_delay_seconds", Json),
        sa.Column("retry_jitter_factor", sa.Float()),
        sa.Column("trace_parent", sa.String(length=55)),
        sa.Column("tags", Tags, nullable=False),
        sa.Column("task_inputs", Json, nullable=False),
        sa.Column("parameters", Json),
        sa.ForeignKeyConstraint(["flow_run_id"], ["flow_run.id"], name="fk_task_run_flow_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_task_run"),
    )
    op.create_index("ix_task_run_state_type_id", "task_run", ["state_type", "id"])
    by_start_time = [sa.text("start_time NULLS FIRST") if on_postgresql else "start_time", "id"]
    by_expected_start_time = [
        sa.text("expected_start_time NULLS FIRST") if on_postgresql else "expected_start_time",
        "id",
    ]
    op.create_index("ix_task_run_expected_start_time", "task_run", by_expected_start_time)
    if not on_postgresql:
        by_state = ["state_type", "state_name", "expected_start_time"]
        summed = ["state_timestamp", "total_run_time_seconds", "start_delay_seconds"]
        op.create_index("ix_task_run_state_expected_start_time", "task_run", [*by_state, *summed])
    op.create_index("ix_task_run_start_time", "task_run", by_start_time)
    op.create_index("ix_task_run_state_type_start_time", "task_run", ["state_type", *by_start_time])
    if on_postgresql:
        op.create_index("ix_task_run_tags", "task_run", ["tags"], postgresql_using="gin")
    op.create_index(
        "ix_task_run_ended",
        "task_run",
        ["state_timestamp"],
        sqlite_where=sa.text(f"flow_run_id IS NULL AND {ended}"),
        postgresql_where=sa.text(f"flow_run_id IS NULL AND {ended}"),
    )
    op.create_index("ix_task_run_task_key_id", "task_run", ["task_key", "id"])
    op.create_index(
        "uq_task_run_in_background",
        "task_run",
        ["task_key", "dynamic_key"],
        unique=True,
        sqlite_where=sa.text("flow_run_id IS NULL"),
        postgresql_where=sa.text("flow_run_id IS NULL"),
    )
    op.create_index(
        "uq_task_run_in_flow_run",
        "task_run",
        ["flow_run_id", "task_key", "dynamic_key"],
        unique=True,
        sqlite_where=sa.text("flow_run_id IS NOT NULL"),
        postgresql_where=sa.text("flow_run_id IS NOT NULL"),
    )

    op.create_table(
        "concurrency_slot",
        sa.Column("limit_id", Id, nullable=False),
        sa.Column("task_run_id", Id, nullable=False),
        sa.ForeignKeyConstraint(
            ["limit_id"], ["concurrency_limit.id"], name="fk_concurrency_slot_limit_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["task_run_id"], ["task_run.id"], name="fk_concurrency_slot_task_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("limit_id", "task_run_id", name="pk_concurrency_slot"),
    )
    op.create_index("ix_concurrency_slot_task_run_id", "concurrency_slot", ["task_run_id"])

    op.create_table(
        "queue_entry",
        sa.Column("task_run_id", Id, nullable=False),
        sa.Column("task_key", Words, nullable=False),
        sa.Column("is_retry", sa.Boolean(), nullable=False),
        sa.Column("available_at", Instant, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_id", Id),
        sa.Column("lease_seconds", sa.Float()),
        sa.Column("lease_expires_at", Instant),
        sa.Column("is_acknowledged", sa.Boolean(), nullable=False),
        sa.Column("worker_name", Words),
        sa.Column("lapses", sa.Integer(), nullable=False),
        sa.Column("waits_for_slot", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_run_id"], ["task_run.id"], name="fk_queue_entry_task_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_run_id", name="pk_queue_entry"),
        sa.UniqueConstraint("lease_id", name="uq_queue_entry_lease_id"),
    )
    op.create_index(
        "ix_queue_entry_leased",
        "queue_entry",
        ["lease_expires_at"],
        sqlite_where=sa.text("lease_id IS NOT NULL"),
        postgresql_where=sa.text("lease_id IS NOT NULL"),
    )
    op.create_index(
        "ix_queue_entry_waiting_for_slot",
        "queue_entry",
        ["available_at"],
        sqlite_where=sa.text("waits_for_slot AND lease_id IS NULL"),
        postgresql_where=sa.text("waits_for_slot AND lease_id IS NULL"),
    )
    op.create_index(
        "ix_queue_entry_waiting",
        "queue_entry",
        ["task_key", "is_retry", "available_at", "task_run_id"],
        sqlite_where=sa.text("lease_id IS NULL"),
        postgresql_where=sa.text("lease_id IS NULL"),
    )

    op.create_table(
        "task_run_state",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("name", Words, nullable=False),
        sa.Column("timestamp", Instant, nullable=False),
        sa.Column("message", Words),
        sa.Column("data", Json),
        sa.Column("details", Json, nullable=False),
        sa.Column("transition_id", Id),
        sa.Column("written_in", sa.BigInteger()),
        sa.ForeignKeyConstraint(["run_id"], ["task_run.id"], name="fk_task_run_state_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_task_run_state"),
    )
    op.create_index("ix_task_run_state_run_id_timestamp", "task_run_state", ["run_id", "timestamp"])
    if on_postgresql:
        op.create_index("ix_task_run_state_written_in_id", "task_run_state", ["written_in", "id"])
    op.create_index("uq_task_run_state_transition", "task_run_state", ["run_id", "transition_id"], unique=True)

    op.create_table(
        "task_run_state_cache",
        sa.Column("task_run_state_id", Id, nullable=False),
        sa.Column("cache_key", Words, nullable=False),
        sa.Column("cache_expiration", Instant),
        sa.Column("created", Instant, nullable=False),
        sa.ForeignKeyConstraint(
            ["task_run_state_id"],
            ["task_run_state.id"],
            name="fk_task_run_state_cache_task_run_state_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_run_state_id", name="pk_task_run_state_cache"),
    )
    op.create_index("ix_task_run_state_cache_cache_key_created", "task_run_state_cache", ["cache_key", "created"])
    if op.get_bind().dialect.name == "postgresql":
        # Flow runs and task runs reference each other; SQLite has this key in the table, where order does not matter.
        op.create_foreign_key(
            "fk_flow_run_parent_task_run_id",
            "flow_run",
            "task_run",
            ["parent_task_run_id"],
            ["id"],
            ondelete="SET NULL",
        )
