"""Statement for the progress that workers report for task runs."""

from collections.abc import Mapping

from sqlalchemy import bindparam, update

from db.connection import Connection
from db.records import TaskRunProgress
from db.sql.statement import Statement
from db.tables import task_run

_UPDATE = Statement(update(task_run).where(task_run.c.id == bindparam("run_id", required=True)), ["progress"])


def write_progress(connection: Connection, progress_by_run: Mapping[str, TaskRunProgress]) -> None:
    """Replace the progress of these runs, by run id. `updated` does not change."""
    connection.run_many(
        _UPDATE, [{"run_id": run_id, "progress": each.to_json()} for run_id, each in progress_by_run.items()]
    )
