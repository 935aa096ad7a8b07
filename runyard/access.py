"""Who is let in where access is by tokens: whoever shows a valid one, as `Authorization: Bearer …`."""

import asyncio
from datetime import datetime, timedelta

from db.engine import Database
from db.instants import instant, moment
from db.records import TokenRecord
from resolvers.storage import DatabaseUnavailable
from resolvers.tokens import Caller, caller_of, parts_of, read_token

KEPT_FOR = timedelta(seconds=5)
"""How long a token that was looked up is taken for what it was, so that requests cost no statement: how long it may go
unnoticed that one was revoked."""


class Unauthenticated(Exception):
    """No valid token has come along."""


class Access:
    """The tokens of a database, as far as they are in use.

    While the database is away, who was let in before goes on to be, until the token expires.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[TokenRecord, datetime]] = {}
        """Tokens, and when they were looked up. What is no token is not kept: nobody can fill this up."""
        self._looking: dict[str, asyncio.Task[tuple[TokenRecord, datetime] | None]] = {}
        """What is being looked up: for all that come with one token meanwhile, one statement does."""

    async def caller(self, authorization: str | None) -> Caller:
        """Who comes with this header. Unauthenticated where nobody is to be let in; DatabaseUnavailable where that can
        not be known."""
        scheme, _, token = (authorization or "").partition(" ")
        parts = parts_of(token) if scheme.lower() == "bearer" else None
        if parts is None:
            raise Unauthenticated("Send an API token along: Authorization: Bearer runyard_…")
        id, secret = parts
        found = await self._look_up(id)
        caller = found and caller_of(found[0], secret, instant(self._database.clock.now()))
        if caller is None:
            raise Unauthenticated("This token is not valid: it may have expired, or been revoked.")
        return caller

    async def end_of(self, caller: Caller) -> None:
        """Return when the caller's token has expired or is revoked."""
        clock, never = self._database.clock, asyncio.Event()
        while True:
            found = await self._look_up(caller.token_id)
            if found is None or not found[0].is_valid(instant(clock.now())):
                return
            record, looked_up_at = found
            until = looked_up_at + KEPT_FOR
            await clock.wait(never, min(until, moment(record.expires_at)) if record.expires_at else until)

    async def _look_up(self, id: str) -> tuple[TokenRecord, datetime] | None:
        now = self._database.clock.now()
        known = self._known.get(id)
        if known is not None and timedelta(0) <= now - known[1] < KEPT_FOR:
            return known
        looking = self._looking.get(id)
        if looking is None:
            looking = self._looking[id] = asyncio.create_task(self._read(id, now), name="token")
            looking.add_done_callback(lambda _: self._looking.pop(id))
        # Others wait for it, too.
        return await asyncio.shield(looking)

    async def _read(self, id: str, now: datetime) -> tuple[TokenRecord, datetime] | None:
        try:
            record = await self._database.read(lambda connection: read_token(connection, id))
        except DatabaseUnavailable:
            if id not in self._known:
                raise
            return self._known[id][0], now
        if record is None:
            self._known.pop(id, None)
            return None
        self._known[id] = record, now
        return self._known[id]
