"""Create API tokens for tests."""

from typing import Any

from db.database import Database
from db.enums import Scope
from resolvers.api_tokens import CreatedToken, NewToken, create_tokens


def token_input(*scopes: str, **fields: Any) -> NewToken:
    return NewToken(frozenset(map(Scope, scopes)), **fields)


async def create_token(database: Database, *scopes: str, **fields: Any) -> CreatedToken:
    """Create a token with these scopes."""
    return await database.write(create_tokens, token_input(*scopes, **fields))
