"""The observer of the tables records when each state was committed, by real time."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.chaos.evidence import State
from tests.chaos.tables import StateObserver


async def test_the_interval_of_a_state_contains_the_time_of_its_commit(tmp_path: Path) -> None:
    path = tmp_path / "runyard.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE task_run_state (id)")
        started_at = time.time()
        observer = StateObserver(f"sqlite+aiosqlite:///{path}")
        async with observer.run():
            before = time.time()
            database.execute("INSERT INTO task_run_state VALUES ('first')")
            database.commit()
            after = time.time()

    ((id, (start, end)),) = observer.appeared.items()
    assert id == "first"
    assert started_at <= start < after
    assert before < end


def test_a_timestamp_outside_the_interval_of_its_state_is_not_used() -> None:
    right = State("RUNNING", "Running", 1.5, appeared=(1.0, 2.0))
    ahead = State("RUNNING", "Running", 301.5, appeared=(1.0, 2.0))

    assert (right.earliest_at, right.latest_at) == (1.5, 1.5)
    assert (ahead.earliest_at, ahead.latest_at) == (1.0, 2.0)
