"""API tokens for tests."""

from typing import Any

from db.engine import Database
from db.vocabulary import Scope
from resolvers.tokens import NewToken, WantedToken, create_tokens


def wanted(*scopes: str, **fields: Any) -> WantedToken:
    return WantedToken(frozenset(map(Scope, scopes)), **fields)


async def new_token(database: Database, *scopes: str, **fields: Any) -> NewToken:
    """A token with these scopes."""
    return await database.write(create_tokens, wanted(*scopes, **fields))
