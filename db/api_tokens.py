"""Statements about API tokens."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, select, update

from db.connection import Connection
from db.mapping import columns_of, insert_of, row_of
from db.records import TokenRecord
from db.statements import Statement, is_among
from db.tables import api_token

_TOKENS = select(*columns_of(api_token, TokenRecord))
_BY_ID = Statement(_TOKENS.where(is_among(api_token.c.id, "ids")))
_ALL = Statement(_TOKENS.order_by(api_token.c.created, api_token.c.id))
_INSERT = insert_of(api_token, TokenRecord)
_REVOKE = Statement(
    update(api_token)
    .where(and_(is_among(api_token.c.id, "ids"), api_token.c.revoked_at.is_(None)))
    .values(revoked_at=bindparam("now", required=True))
)


def tokens_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, TokenRecord]:
    """The tokens that are there, by id."""
    return {row[0]: TokenRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def all_tokens(connection: Connection) -> list[TokenRecord]:
    """Every token, the oldest first."""
    return [TokenRecord(*row) for row in connection.fetch(_ALL)]


def insert_tokens(connection: Connection, records: Sequence[TokenRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])


def revoke_tokens(connection: Connection, ids: Sequence[str]) -> None:
    """Revoke these tokens; those that are revoked keep the instant at which they were."""
    connection.run(_REVOKE, {"ids": list(ids), "now": connection.now})
