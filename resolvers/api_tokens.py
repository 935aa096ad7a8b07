"""API tokens: made, listed, revoked, and looked at when somebody comes with one.

A token is `runyard_<id>_<secret>`. The id is no secret: by it the row is found. Of the secret only a hash is kept, and a
plain one is right here: the secret is 256 bits of chance, not a word that somebody chose, so nothing can be tried out.
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
from db.runtime.timestamps import instant, moment, seconds_after
from db.statements import api_tokens
from resolvers.errors import NotFound

ID_BYTES = 6
SECRET_BYTES = 32

USE_NOTED_SECONDS = 3600.0
"""How long the use of a token is not noted again."""

_TOKEN = re.compile(rf"runyard_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")


@dataclass(frozen=True, slots=True)
class WantedToken:
    """What a new token is to be good for, and for how long; for ever, where that is not said."""

    scopes: frozenset[Scope]
    name: str | None = None
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, with the text that nobody can be shown again."""

    text: str
    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has come with a valid token."""

    token_id: str
    scopes: frozenset[Scope]


def create_tokens(connection: Connection, wanted: Sequence[WantedToken]) -> list[NewToken | Exception]:
    """Make the tokens."""
    made: list[NewToken | Exception] = []
    records: list[TokenRecord] = []
    for each in wanted:
        id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
        expires_at = instant(moment(connection.now) + each.lifetime) if each.lifetime else None
        scopes = " ".join(sorted(each.scopes))
        record = TokenRecord(id, connection.now, each.name, scopes, _hash(secret), expires_at, None, None)
        records.append(record)
        made.append(NewToken(f"runyard_{id}_{secret}", record))
    api_tokens.insert_tokens(connection, records)
    return made


def list_tokens(connection: Connection) -> list[TokenRecord]:
    """Every token, the oldest first, also those that are of no use any more."""
    return api_tokens.all_tokens(connection)


def revoke_tokens(connection: Connection, names: Sequence[str]) -> list[TokenRecord | Exception]:
    """Revoke tokens, each named by its id, by a beginning of the id that no other has, or by the whole token.

    Revoking once more changes nothing. NotFound where a name is no token's, or could be several tokens'.
    """
    known = api_tokens.all_tokens(connection)
    found: list[TokenRecord | Exception] = []
    for name in names:
        beginning = name.removeprefix("runyard_").partition("_")[0]
        named = [record for record in known if beginning and record.id.startswith(beginning)]
        found.append(named[0] if len(named) == 1 else NotFound("single token", beginning))
    ids = [each.id for each in found if isinstance(each, TokenRecord)]
    api_tokens.revoke_tokens(connection, ids)
    now = api_tokens.tokens_by_id(connection, ids)
    return [now[each.id] if isinstance(each, TokenRecord) else each for each in found]


def note_use_of_tokens(connection: Connection, ids: Sequence[str]) -> list[Exception | None]:
    """Note that the tokens let somebody in, unless that was noted within the last hour, by whichever server."""
    api_tokens.note_use(connection, ids, seconds_after(connection.now, -USE_NOTED_SECONDS))
    return [None for _ in ids]


def has_valid_token(connection: Connection) -> bool:
    """Whether any token opens anything."""
    return any(record.is_valid(connection.now) for record in api_tokens.all_tokens(connection))


def read_token(connection: Connection, id: str) -> TokenRecord | None:
    """The token of this id; None where there is none."""
    return api_tokens.tokens_by_id(connection, [id]).get(id)


def read_valid_ids(connection: Connection) -> frozenset[str]:
    """The ids of all tokens that open anything."""
    return frozenset(api_tokens.valid_ids(connection))


def parts_of(text: str) -> tuple[str, str] | None:
    """The id and the secret that a token is made of; None for what is no token by its form."""
    found = _TOKEN.fullmatch(text)
    return (found[1], found[2]) if found else None


def is_secret_of(record: TokenRecord, secret: str) -> bool:
    """Whether this is the token's secret. Takes as long where it is another one."""
    return hmac.compare_digest(_hash(secret), record.secret_hash)


def caller_of(record: TokenRecord, secret: str, now: str) -> Caller | None:
    """Who holds the secret of this token; None where it is another secret, or the token is valid no more."""
    if not is_secret_of(record, secret) or not record.is_valid(now):
        return None
    return Caller(record.id, frozenset(map(Scope, record.scopes.split())))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
