"""API tokens for tests."""

from typing import Any

from db.database import Database
from db.enums import Scope
from resolvers.api_tokens import NewToken, WantedToken, create_tokens


def wanted(*scopes: str, **fields: Any) -> WantedToken:
    return WantedToken(frozenset(map(Scope, scopes)), **fields)


async def new_token(database: Database, *scopes: str, **fields: Any) -> NewToken:
    """A token with these scopes."""
    return await database.write(create_tokens, wanted(*scopes, **fields))
