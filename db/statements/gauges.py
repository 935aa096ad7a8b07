"""Statement for the gauges that metrics report: numbers of running task runs and of paused queues."""

from sqlalchemy import func, select

from db.connection import Connection
from db.enums import StateType
from db.sql.statement import Statement
from db.tables import paused_queue, task_run

_running = select(func.count()).select_from(task_run).where(task_run.c.state_type == StateType.RUNNING.value)
_paused = select(func.count()).select_from(paused_queue)
_GAUGES = Statement(select(_running.scalar_subquery(), _paused.scalar_subquery()))


def count_running_and_paused(connection: Connection) -> tuple[int, int]:
    """Return the number of task runs that are RUNNING, with one search of an index, and that of paused queues."""
    ((running, paused),) = connection.fetch(_GAUGES)
    return running, paused
