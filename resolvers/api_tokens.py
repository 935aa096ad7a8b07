"""API tokens: create, list, revoke, verify.

A token is `runyard_<id>_<secret>`. The id is public and identifies the row. Only a SHA-256 hash of the secret is
stored. A slow password hash is unnecessary: the secret is 256 random bits and cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from db.connection import Connection
from db.enums import Scope
from db.records import TokenRecord
from db.runtime.timestamps import format_timestamp, parse_timestamp, seconds_after
from db.statements import api_tokens
from resolvers.errors import NotFound

ID_BYTES = 6
SECRET_BYTES = 32

LAST_USED_INTERVAL_SECONDS = 3600.0
"""Time after a recorded use of a token during which further uses are not recorded."""

_TOKEN = re.compile(rf"runyard_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")


@dataclass(frozen=True, slots=True)
class NewToken:
    """The scopes, name and lifetime of a token to create. Without a lifetime, the token never expires."""

    scopes: frozenset[Scope]
    name: str | None = None
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token and its text, which cannot be retrieved later."""

    text: str
    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that a valid token identifies."""

    token_id: str
    scopes: frozenset[Scope]
    name: str | None = None
    """Name of the token; None if it has no name."""
    expires_at: str | None = None

    @property
    def actor(self) -> str:
        """What identifies the client in the states that it sets."""
        return self.name or self.token_id


def create_tokens(connection: Connection, new_tokens: Sequence[NewToken]) -> list[CreatedToken | Exception]:
    """Create tokens with random ids and secrets."""
    created: list[CreatedToken | Exception] = []
    records: list[TokenRecord] = []
    for each in new_tokens:
        id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
        expires_at = format_timestamp(parse_timestamp(connection.now) + each.lifetime) if each.lifetime else None
        scopes = " ".join(sorted(each.scopes))
        record = TokenRecord(id, connection.now, each.name, scopes, _hash(secret), expires_at, None, None)
        records.append(record)
        created.append(CreatedToken(f"runyard_{id}_{secret}", record))
    api_tokens.insert_tokens(connection, records)
    return created


def list_tokens(connection: Connection) -> list[TokenRecord]:
    """Return all tokens, oldest first, including expired and revoked tokens."""
    return api_tokens.all_tokens(connection)


def revoke_tokens(connection: Connection, names: Sequence[str]) -> list[TokenRecord | Exception]:
    """Revoke tokens. Each is identified by its id, a unique prefix of its id, or the whole token.

    Idempotent. Returns NotFound for a name that matches no token or several tokens.
    """
    tokens = api_tokens.all_tokens(connection)
    matches: list[TokenRecord | Exception] = []
    for name in names:
        prefix = name.removeprefix("runyard_").partition("_")[0]
        named = [record for record in tokens if prefix and record.id.startswith(prefix)]
        matches.append(named[0] if len(named) == 1 else NotFound("name", "single token", prefix))
    ids = [each.id for each in matches if isinstance(each, TokenRecord)]
    api_tokens.revoke_tokens(connection, ids)
    by_id = api_tokens.tokens_by_id(connection, ids)
    return [by_id[each.id] if isinstance(each, TokenRecord) else each for each in matches]


def record_token_use(connection: Connection, ids: Sequence[str]) -> list[Exception | None]:
    """Record the use of tokens, unless a server has recorded one within `LAST_USED_INTERVAL_SECONDS`."""
    api_tokens.record_use(connection, ids, seconds_after(connection.now, -LAST_USED_INTERVAL_SECONDS))
    return [None for _ in ids]


def has_valid_token(connection: Connection) -> bool:
    """Return whether at least one token is valid."""
    return any(record.is_valid(connection.now) for record in api_tokens.all_tokens(connection))


def read_token(connection: Connection, id: str) -> TokenRecord | None:
    """Return the token with this id; None if it does not exist."""
    return api_tokens.tokens_by_id(connection, [id]).get(id)


def read_valid_ids(connection: Connection) -> frozenset[str]:
    """Return the ids of all valid tokens."""
    return frozenset(api_tokens.valid_token_ids(connection))


def parse_token(text: str) -> tuple[str, str] | None:
    """Split a token into its id and secret; return None if the text does not have the format of a token."""
    match = _TOKEN.fullmatch(text)
    return (match[1], match[2]) if match else None


def has_secret(record: TokenRecord, secret: str) -> bool:
    """Return whether `secret` is the secret of the token. Compares in constant time."""
    return hmac.compare_digest(_hash(secret), record.secret_hash)


def authenticate_token(record: TokenRecord, secret: str, now: str) -> Caller | None:
    """Return the caller that the token identifies; None if the secret is wrong or the token is not valid at `now`."""
    if not has_secret(record, secret) or not record.is_valid(now):
        return None
    return Caller(record.id, frozenset(map(Scope, record.scopes.split())), record.name, record.expires_at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
