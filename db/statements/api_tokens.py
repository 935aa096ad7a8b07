"""Statements about API tokens."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, or_, select, update

from db.connection import Connection
from db.records import TokenRecord
from db.row_mapping import columns_of, insert_of, row_of
from db.sql.dialects import is_among
from db.sql.statement import Statement
from db.tables import api_token

_TOKENS = select(*columns_of(api_token, TokenRecord))
_BY_ID = Statement(_TOKENS.where(is_among(api_token.c.id, "ids")))
_ALL = Statement(_TOKENS.order_by(api_token.c.created, api_token.c.id))
_VALID_IDS = Statement(
    select(api_token.c.id).where(
        and_(
            api_token.c.revoked_at.is_(None),
            or_(api_token.c.expires_at.is_(None), api_token.c.expires_at > bindparam("now", required=True)),
        )
    )
)
_INSERT = insert_of(api_token, TokenRecord)
_REVOKE = Statement(
    update(api_token)
    .where(and_(is_among(api_token.c.id, "ids"), api_token.c.revoked_at.is_(None)))
    .values(revoked_at=bindparam("now", required=True))
)

_NOTE_USE = Statement(
    update(api_token)
    .where(
        and_(
            is_among(api_token.c.id, "ids"),
            or_(
                api_token.c.last_used_at.is_(None), api_token.c.last_used_at <= bindparam("noted_before", required=True)
            ),
        )
    )
    .values(last_used_at=bindparam("now", required=True))
)


def tokens_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, TokenRecord]:
    """The tokens that are there, by id."""
    return {row[0]: TokenRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def all_tokens(connection: Connection) -> list[TokenRecord]:
    """Every token, the oldest first."""
    return [TokenRecord(*row) for row in connection.fetch(_ALL)]


def valid_ids(connection: Connection) -> list[str]:
    """The ids of the tokens that are neither revoked nor expired."""
    return [id for (id,) in connection.fetch(_VALID_IDS, {"now": connection.now})]


def insert_tokens(connection: Connection, records: Sequence[TokenRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])


def revoke_tokens(connection: Connection, ids: Sequence[str]) -> None:
    """Revoke these tokens; those that are revoked keep the instant at which they were."""
    connection.run(_REVOKE, {"ids": list(ids), "now": connection.now})


def note_use(connection: Connection, ids: Sequence[str], noted_before: str) -> None:
    """Note that these tokens are used, unless that was noted later than `noted_before`."""
    connection.run(_NOTE_USE, {"ids": list(ids), "noted_before": noted_before, "now": connection.now})
