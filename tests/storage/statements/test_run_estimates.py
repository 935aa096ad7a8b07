"""Estimated run time and lateness: SQL and Python compute the same values."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from db import migrations, tables
from db.connection import SQLiteConnection
from db.enums import StateType
from db.query.run_estimates import estimated_lateness_seconds, estimated_run_time_seconds
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Statement
from db.statements.task_runs import insert_task_runs
from resolvers.task_runs import NewTaskRun, build_task_run

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ESTIMATES = Statement(
    select(estimated_run_time_seconds(tables.task_run), estimated_lateness_seconds(tables.task_run)).where(
        tables.task_run.c.name == "it"
    )
)
TIMESTAMPS = st.none() | st.integers(-(10**13), 10**13).map(
    lambda each: format_timestamp(NOW + timedelta(microseconds=each))
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[SQLiteConnection]:
    migrations.upgrade_sqlite(tmp_path / "runyard.db")
    raw = sqlite3.connect(tmp_path / "runyard.db", isolation_level=None)
    yield SQLiteConnection(raw, format_timestamp(NOW))
    raw.close()


@given(
    type=st.none() | st.sampled_from(StateType),
    since=TIMESTAMPS.filter(lambda each: each is not None),
    expected=TIMESTAMPS,
    started=TIMESTAMPS,
    total=st.floats(0, 1e6),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much], deadline=None)
def test_sql_and_python_agree_to_the_microsecond(
    connection: SQLiteConnection,
    type: StateType | None,
    since: str,
    expected: str | None,
    started: str | None,
    total: float,
) -> None:
    run = build_task_run(NewTaskRun("t", "d", name="it"), format_timestamp(NOW))
    run.state_type, run.state_timestamp, run.total_run_time_seconds = type, since, total
    run.expected_start_time, run.start_time, run.read_at = expected, started, format_timestamp(NOW)
    connection.raw.execute("DELETE FROM task_run")
    insert_task_runs(connection, [run])

    ((run_time, lateness),) = connection.fetch(ESTIMATES, {"now": format_timestamp(NOW)})

    assert run_time == pytest.approx(run.estimated_run_time_seconds, abs=1e-6)
    # SQL ignores runs without a state, while a record counts them as waiting.
    wanted = 0.0 if type is None and started is None else run.estimated_start_time_delta_seconds
    assert lateness == pytest.approx(wanted, abs=1e-6)
