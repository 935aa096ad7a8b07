"""Statements for API tokens."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, or_, select, update

from db.connection import Connection
from db.records import TokenRecord
from db.row_mapping import insert_statement, record_columns, record_to_row
from db.sql.lists import is_among
from db.sql.statement import Statement
from db.tables import api_token

_TOKENS = select(*record_columns(api_token, TokenRecord))
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
_INSERT = insert_statement(api_token, TokenRecord)
_REVOKE = Statement(
    update(api_token)
    .where(and_(is_among(api_token.c.id, "ids"), api_token.c.revoked_at.is_(None)))
    .values(revoked_at=bindparam("now", required=True))
)

_RECORD_USE = Statement(
    update(api_token)
    .where(
        and_(
            is_among(api_token.c.id, "ids"),
            or_(
                api_token.c.last_used_at.is_(None),
                api_token.c.last_used_at <= bindparam("recorded_before", required=True),
            ),
        )
    )
    .values(last_used_at=bindparam("now", required=True))
)


def tokens_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, TokenRecord]:
    """Return the existing tokens by id."""
    return {row[0]: TokenRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def all_tokens(connection: Connection) -> list[TokenRecord]:
    """Return every token, oldest first."""
    return [TokenRecord(*row) for row in connection.fetch(_ALL)]


def valid_token_ids(connection: Connection) -> list[str]:
    """Return the ids of the tokens that are neither revoked nor expired."""
    return [id for (id,) in connection.fetch(_VALID_IDS, {"now": connection.now})]


def insert_tokens(connection: Connection, records: Sequence[TokenRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])


def revoke_tokens(connection: Connection, ids: Sequence[str]) -> None:
    """Revoke these tokens. A token that is already revoked keeps its revocation time."""
    connection.run(_REVOKE, {"ids": list(ids), "now": connection.now})


def record_use(connection: Connection, ids: Sequence[str], recorded_before: str) -> None:
    """Record that these tokens are used now, unless a use later than `recorded_before` is already recorded."""
    connection.run(_RECORD_USE, {"ids": list(ids), "recorded_before": recorded_before, "now": connection.now})
