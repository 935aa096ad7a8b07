"""Migrations: the database is created and upgraded at start, atomically."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from db import migrations
from db.errors import DatabaseTooNew, DatabaseUnavailable
from db.statements.schema_version import HEAD, REVISIONS
from db.tables import CAN_EXPIRE, HAS_ENDED, HAS_NOT_ENDED, HOLDS_UNIQUE_KEY, IS_STOPPED, metadata
from tests.client import TIMEOUT_SECONDS
from tests.postgresql import PostgreSQLServer
from tests.storage.open_database import open_database
from tests.storage.processes import python_process, resume

TABLES = {
    "alembic_version",
    "api_token",
    "concurrency_limit",
    "concurrency_slot",
    "deployment",
    "flow",
    "flow_run",
    "flow_run_state",
    "heartbeat",
    "paused_queue",
    "queue_entry",
    "server_workers",
    "task_run",
    "task_run_state",
    "task_run_state_cache",
}

UPGRADE_PROGRAM = """
import sys
from pathlib import Path
import alembic.command, sqlalchemy  # import before "ready", to make both processes start at the same time
from db import migrations
print("ready", flush=True)
sys.stdin.readline()
migrations.upgrade_sqlite(Path(sys.argv[1]))
"""

OPEN_PROGRAM = """
import asyncio, sys
from pathlib import Path
from db.runtime.clock import SystemClock
from db.sqlite.database import SQLiteDatabase

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    database = await SQLiteDatabase.open(Path(sys.argv[1]), clock=SystemClock(), busy_seconds=0.05)
    await database.close()

asyncio.run(main())
"""


@contextmanager
def engine_of(path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def schema_of(path: Path) -> dict[str, str]:
    """Return the SQL of each table and index in the file, by name, with normalized whitespace."""
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: " ".join(sql.split()) for name, sql in rows}


def fetch_revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as raw:
        ((revision,),) = raw.execute("SELECT version_num FROM alembic_version").fetchall()
    return revision


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as raw:
        return {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_starting_without_a_file_creates_a_current_database(path: Path) -> None:
    upgraded = migrations.upgrade_sqlite(path)

    assert upgraded is True
    assert fetch_revision(path) == HEAD
    assert tables_of(path) == TABLES


def test_an_empty_file_is_migrated(path: Path) -> None:
    path.touch()

    upgraded = migrations.upgrade_sqlite(path)

    assert upgraded is True
    assert fetch_revision(path) == HEAD
    assert tables_of(path) == TABLES


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "db:migrations")
    scripts = ScriptDirectory.from_config(config)

    newest_first = [script.revision for script in scripts.walk_revisions()]

    assert newest_first[::-1] == list(REVISIONS)
    assert scripts.get_heads() == [HEAD]


def test_the_migrations_create_the_tables_of_the_metadata(path: Path) -> None:
    migrations.upgrade_sqlite(path)

    with engine_of(path) as engine, engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, {"compare_type": True}), metadata)

    # The comparison ignores the dialect of an index; the tests below check the indexes.
    assert [each for each in differences if each[0] not in {"add_index", "remove_index"}] == []


def test_the_migrations_create_the_same_columns_and_indexes_on_postgresql(postgresql: PostgreSQLServer) -> None:
    migrated, created = postgresql.make(), postgresql.make(migrated=False)
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    columns = (
        "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable,"
        " column_default, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2"
    )

    # Execute the SQL text: `metadata.create_all` would modify the circular foreign key.
    for table in metadata.sorted_tables:
        postgresql.rows(created, str(CreateTable(table).compile(dialect=dialect())))
        for index in table.indexes:
            if index._ddl_if is None or index._ddl_if.dialect == "postgresql":
                postgresql.rows(created, str(CreateIndex(index).compile(dialect=dialect())))

    assert postgresql.rows(migrated, columns) == postgresql.rows(created, columns)
    assert sorted(postgresql.rows(migrated, indexes)) == sorted(postgresql.rows(created, indexes))
    postgresql.drop(migrated)
    postgresql.drop(created)


def test_the_migrations_create_the_same_indexes_and_conditions_on_sqlite(path: Path, tmp_path: Path) -> None:
    migrations.upgrade_sqlite(path)
    with engine_of(tmp_path / "other.db") as engine:
        metadata.create_all(engine)

    actual, expected = schema_of(path), schema_of(tmp_path / "other.db")

    assert {name: sql for name, sql in actual.items() if name not in TABLES} == {
        name: sql for name, sql in expected.items() if name not in TABLES
    }
    assert {name: sql.partition(" WHERE ")[2] for name, sql in actual.items() if " WHERE " in sql} == {
        "ix_flow_run_ended": HAS_ENDED,
        "ix_flow_run_stopped": IS_STOPPED,
        "ix_flow_run_unfinished": HAS_NOT_ENDED,
        "ix_queue_entry_leased": "lease_id IS NOT NULL",
        "ix_queue_entry_timed": "times_out_at IS NOT NULL",
        "ix_queue_entry_waiting": "lease_id IS NULL",
        "ix_queue_entry_waiting_for_slot": "waits_for_tag IS NOT NULL",
        "ix_task_run_expiring": CAN_EXPIRE,
        "ix_task_run_ended": f"flow_run_id IS NULL AND {HAS_ENDED}",
        "ix_task_run_unfinished_in_flow_run": f"flow_run_id IS NOT NULL AND {HAS_NOT_ENDED}",
        "uq_task_run_in_background": "flow_run_id IS NULL",
        "uq_task_run_in_flow_run": "flow_run_id IS NOT NULL",
        "uq_task_run_unique_key": HOLDS_UNIQUE_KEY,
    }


def test_the_migrations_create_the_same_foreign_keys(path: Path, tmp_path: Path) -> None:
    migrations.upgrade_sqlite(path)
    with engine_of(tmp_path / "other.db") as engine:
        metadata.create_all(engine)

    actual, expected = (
        {(table, *key[2:7]) for table in TABLES for key in raw.execute(f"PRAGMA foreign_key_list({table})")}
        for file in (path, tmp_path / "other.db")
        for raw in [sqlite3.connect(file)]
    )

    assert actual == expected
    assert len(actual) == 10


def test_starting_again_changes_nothing(path: Path) -> None:
    migrations.upgrade_sqlite(path)
    before = path.read_bytes()

    upgraded = migrations.upgrade_sqlite(path)

    assert upgraded is False
    assert path.read_bytes() == before


async def test_an_open_database_is_current(path: Path) -> None:
    async with open_database(path) as database:
        assert await database.is_current() is True


async def test_an_open_database_upgraded_by_a_later_version_is_not_current(path: Path) -> None:
    async with open_database(path) as database:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE alembic_version SET version_num = '9999'")

        assert await database.is_current() is False


def test_a_file_of_a_later_version_is_rejected_unchanged(path: Path) -> None:
    migrations.upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()

    with pytest.raises(DatabaseTooNew, match="later version of Runyard"):
        migrations.upgrade_sqlite(path)

    assert path.read_bytes() == before
    assert fetch_revision(path) == "9999"


def test_a_file_that_is_not_a_database_is_rejected_unchanged(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)

    with pytest.raises(DatabaseUnavailable, match="could not be read"):
        migrations.upgrade_sqlite(path)

    assert path.read_text() == "Dear diary,\n" * 1000


def test_an_upgrade_that_fails_leaves_the_file_unchanged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE heartbeat (mine)")  # the table that is created last
        raw.execute("INSERT INTO heartbeat VALUES (1)")

    with pytest.raises(DatabaseUnavailable, match="already exists"):
        migrations.upgrade_sqlite(path)

    assert tables_of(path) == {"heartbeat"}
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT * FROM heartbeat").fetchall() == [(1,)]


def test_two_processes_can_upgrade_one_new_file_at_once(path: Path) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(python_process(UPGRADE_PROGRAM, path)) for _ in range(2)]
        for each in started:
            resume(each)
        ends = [(each.communicate(timeout=TIMEOUT_SECONDS)[1], each.returncode) for each in started]

    assert ends == [("", 0), ("", 0)]
    assert fetch_revision(path) == HEAD
    assert tables_of(path) == TABLES


def test_a_process_that_fails_to_open_the_database_exits(path: Path) -> None:
    migrations.upgrade_sqlite(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        # A file that is being read cannot be switched to WAL mode.
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM flow").fetchall()
        with python_process(OPEN_PROGRAM, path) as opening:
            resume(opening)
            _, stderr = opening.communicate(timeout=TIMEOUT_SECONDS / 4)

    assert opening.returncode == 1
    assert "DatabaseUnavailable" in stderr


@pytest.mark.parametrize("name", ["runyard.db", "two words.db", "Läufe.db", "a#b.db", "a'b.db"])
def test_the_file_is_created_at_the_given_path(tmp_path: Path, name: str) -> None:
    migrations.upgrade_sqlite(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["what?.db", "100%25.db"])
def test_the_file_is_created_at_a_path_that_looks_like_a_url(tmp_path: Path, name: str) -> None:
    migrations.upgrade_sqlite(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == [name]
