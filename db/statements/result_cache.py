"""Statements about kept results: completed states by cache key."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Text, bindparam, or_, select

from db.connection import Connection
from db.records import StateRecord
from db.row_mapping import columns_of, insert_of, row_of, state_from
from db.sql.dialects import rows_of
from db.sql.statement import Statement
from db.tables import task_run_state, task_run_state_cache


@dataclass(slots=True)
class CacheRecord:
    """A state that is kept under a key until its expiration, or for ever."""

    task_run_state_id: str
    cache_key: str
    cache_expiration: str | None
    created: str


_now = bindparam("now", required=True, type_=task_run_state_cache.c.created.type)
_INSERT = insert_of(task_run_state_cache, CacheRecord)
_keys = rows_of("keys", cache_key=Text())
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
    select(_keys.c.cache_key, *columns_of(task_run_state, StateRecord)).select_from(
        _keys.join(task_run_state, task_run_state.c.id == _newest)
    )
)


def cached_states(connection: Connection, keys: Sequence[str]) -> dict[str, StateRecord]:
    """The newest state that is kept under each of these keys and has not expired."""
    asked = [[key] for key in dict.fromkeys(keys)]
    rows = connection.fetch(_BY_KEY, {"keys": asked, "now": connection.now}) if asked else []
    return {row[0]: state_from(row[1:]) for row in rows}


def keep_states(connection: Connection, records: Sequence[CacheRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])
