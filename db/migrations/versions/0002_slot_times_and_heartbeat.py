"""Add the times of concurrency slots, the heartbeat of servers and indexes for lists; rename keys of state details."""

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Id = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Instant = sa.String(27).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
Json = sa.Text().with_variant(postgresql.JSON(), "postgresql")

RENAMED_DETAILS = {"cache_expiration": "cache_expires_at", "pause_timeout": "pause_timeout_at"}

BATCH_SIZE = 1000
"""Number of states that are held in memory and updated at a time."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _add_slot_times()
    _rename_details("task_run_state")
    _rename_details("flow_run_state")
    op.create_index("ix_flow_created_id", "flow", ["created", "id"])
    op.create_index("ix_deployment_created_id", "deployment", ["created", "id"])
    op.create_index("ix_deployment_name_id", "deployment", ["name", "id"])
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_index(
        "ix_task_run_end_time", "task_run", [sa.text("end_time NULLS FIRST") if on_postgresql else "end_time", "id"]
    )
    op.drop_index("ix_queue_entry_waiting_for_slot", "queue_entry")
    op.create_index(
        "ix_queue_entry_waiting_for_slot",
        "queue_entry",
        ["available_at"],
        sqlite_where=sa.text("waits_for_slot"),
        postgresql_where=sa.text("waits_for_slot"),
    )
    op.create_table(
        "heartbeat",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_heartbeat"),
    )


def _add_slot_times() -> None:
    """Add `concurrency_slot.acquired_at`: the time at which the run last entered RUNNING, where it took the slot.

    The table is created again, because SQLite cannot add a column that is not null and has no default.
    """
    op.execute(
        """
        CREATE TABLE concurrency_slot_before AS
        SELECT slot.limit_id, slot.task_run_id, coalesce(
            (SELECT max(timestamp) FROM task_run_state WHERE run_id = slot.task_run_id AND type = 'RUNNING'),
            run.state_timestamp,
            run.created
        ) AS acquired_at
        FROM concurrency_slot AS slot JOIN task_run AS run ON run.id = slot.task_run_id
        """
    )
    op.drop_table("concurrency_slot")
    op.create_table(
        "concurrency_slot",
        sa.Column("limit_id", Id, nullable=False),
        sa.Column("task_run_id", Id, nullable=False),
        sa.Column("acquired_at", Instant, nullable=False),
        sa.ForeignKeyConstraint(
            ["limit_id"], ["concurrency_limit.id"], name="fk_concurrency_slot_limit_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["task_run_id"], ["task_run.id"], name="fk_concurrency_slot_task_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("limit_id", "task_run_id", name="pk_concurrency_slot"),
    )
    op.create_index("ix_concurrency_slot_task_run_id", "concurrency_slot", ["task_run_id"])
    op.execute("INSERT INTO concurrency_slot SELECT limit_id, task_run_id, acquired_at FROM concurrency_slot_before")
    op.drop_table("concurrency_slot_before")


def _rename_details(table: str) -> None:
    """Rename keys in the details of states: the column contains the fields of `StateDetails` under their names.

    The JSON is converted in Python, because the JSON functions of PostgreSQL reject some of the text that it stores.
    """
    states = sa.table(table, sa.column("id", Id), sa.column("details", Json))
    text = sa.cast(states.c.details, sa.Text())
    page = (
        sa.select(states.c.id, text)
        .where(states.c.id > sa.bindparam("after", type_=Id))
        .where(sa.or_(*(text.contains(f'"{key}"', autoescape=True) for key in RENAMED_DETAILS)))
        .order_by(states.c.id)
        .limit(BATCH_SIZE)
    )
    change = sa.update(states).where(states.c.id == sa.bindparam("of_state", type_=Id))
    change = change.values(details=sa.cast(sa.bindparam("changed", type_=sa.Text()), Json))
    connection, after = op.get_bind(), "00000000-0000-0000-0000-000000000000"
    while rows := connection.execute(page, {"after": after}).all():
        connection.execute(change, [{"of_state": id, "changed": _with_new_keys(details)} for id, details in rows])
        after = rows[-1][0]


def _with_new_keys(details: str) -> str:
    return orjson.dumps({RENAMED_DETAILS.get(key, key): value for key, value in orjson.loads(details).items()}).decode()
