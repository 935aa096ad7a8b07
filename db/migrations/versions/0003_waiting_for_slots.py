"""Add the tag that a queued run waits for, and indexes for waiting runs and for unfinished and stopped flow runs."""

import sqlalchemy as sa
from alembic import op

Words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

HAS_NOT_ENDED = "state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING')"
IS_STOPPED = "state_type IN ('CANCELLED', 'CRASHED')"

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.drop_index("ix_queue_entry_waiting", "queue_entry")
    op.drop_index("ix_queue_entry_waiting_for_slot", "queue_entry")
    op.add_column("queue_entry", sa.Column("waits_for_tag", Words))
    _find_tags_of_waiting_runs()
    _create_partial_index(
        "ix_queue_entry_waiting",
        "queue_entry",
        ["task_key", "is_retry", "waits_for_slot", "available_at", "task_run_id"],
        where="lease_id IS NULL",
    )
    _create_partial_index(
        "ix_queue_entry_waiting_for_slot",
        "queue_entry",
        ["waits_for_tag", "task_key", "available_at", "task_run_id"],
        where="waits_for_tag IS NOT NULL",
    )
    _create_partial_index("ix_flow_run_unfinished", "flow_run", ["state_type", "parent_task_run_id"], HAS_NOT_ENDED)
    _create_partial_index("ix_flow_run_stopped", "flow_run", ["state_timestamp"], IS_STOPPED)
    _create_partial_index(
        "ix_task_run_unfinished_in_flow_run",
        "task_run",
        ["flow_run_id"],
        where=f"flow_run_id IS NOT NULL AND {HAS_NOT_ENDED}",
    )


def _find_tags_of_waiting_runs() -> None:
    """Set the tag of each waiting run: the first of its tags whose limit has no free slot.

    A run whose limits all have free slots no longer waits.
    """
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    has_tag = "run.tags ? lim.tag" if on_postgresql else "lim.tag IN (SELECT value FROM json_each(run.tags))"
    op.execute(
        f"""
        UPDATE queue_entry SET waits_for_tag = (
            SELECT min(lim.tag)
            FROM concurrency_limit AS lim JOIN task_run AS run ON {has_tag}
            WHERE run.id = queue_entry.task_run_id
            AND lim."limit" <= (SELECT count(*) FROM concurrency_slot AS slot WHERE slot.limit_id = lim.id)
        )
        WHERE waits_for_slot
        """  # noqa: S608 - built from constants
    )
    op.execute("UPDATE queue_entry SET waits_for_slot = (waits_for_tag IS NOT NULL) WHERE waits_for_slot")


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
