"""Statements for the result cache: completed states by cache key."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Text, bindparam, or_, select

from db.connection import Connection
from db.records import StateRecord
from db.row_mapping import insert_statement, record_columns, record_to_row, state_from_row
from db.sql.lists import unnest_rows
from db.sql.statement import Statement
from db.tables import task_run_state, task_run_state_cache


@dataclass(slots=True)
class CacheRecord:
    """A state that is cached under a key until its expiration, or permanently when it has none."""

    task_run_state_id: str
    cache_key: str
    cache_expiration: str | None
    created: str


_now = bindparam("now", required=True, type_=task_run_state_cache.c.created.type)
_INSERT = insert_statement(task_run_state_cache, CacheRecord)
_keys = unnest_rows("keys", cache_key=Text())
_newest = (
    select(task_run_state_cache.c.task_run_state_id)
    .where(
        task_run_state_cache.c.cache_key == _keys.c.cache_key,
        or_(task_run_state_cache.c.cache_expiration.is_(None), task_run_state_cache.c.cache_expiration > _now),
    )
    .order_by(task_run_state_cache.c.created.desc(), task_run_state_cache.c.task_run_state_id.desc())
    .limit(1)
    .correlate(_keys)
    .scalar_subquery()
)
_BY_KEY = Statement(
    select(_keys.c.cache_key, *record_columns(task_run_state, StateRecord)).select_from(
        _keys.join(task_run_state, task_run_state.c.id == _newest)
    )
)


def cached_states(connection: Connection, keys: Sequence[str]) -> dict[str, StateRecord]:
    """Return the newest cached state of each of these keys that has not expired, by key."""
    key_rows = [[key] for key in dict.fromkeys(keys)]
    rows = connection.fetch(_BY_KEY, {"keys": key_rows, "now": connection.now}) if key_rows else []
    return {row[0]: state_from_row(row[1:]) for row in rows}


def cache_states(connection: Connection, records: Sequence[CacheRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])
