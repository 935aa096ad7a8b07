"""Who is let in where access is by tokens: whoever shows a valid one, as `Authorization: Bearer …`."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from math import ceil

from starlette.requests import HTTPConnection

from db.database import Database
from db.records import TokenRecord
from db.runtime.timestamps import instant, moment
from resolvers.api_tokens import Caller, caller_of, is_secret_of, parts_of, read_token, read_valid_ids
from resolvers.storage import DatabaseUnavailable
from runyard.auth.failed_attempts import WrongTokens
from runyard.auth.last_used import TokenUse

KEPT_FOR = timedelta(seconds=5)
"""How long a token that was looked up is taken for what it was, so that requests cost no statement: how long it may go
unnoticed that one was revoked."""


class Unauthenticated(Exception):
    """No valid token has come along."""


class TooManyWrongTokens(Exception):
    """More wrong tokens have come from this address than are looked at."""

    def __init__(self, wait: float) -> None:
        self.seconds = ceil(wait)
        super().__init__(f"Too many wrong tokens have come from this address; try again in {self.seconds} seconds.")


def address_of(connection: HTTPConnection) -> str:
    """Where a request or a WebSocket has come from; empty where that has no address."""
    return connection.client.host if connection.client else ""


class Access:
    """The tokens of a database, as far as they are in use.

    While the database is away, who was let in before goes on to be, until the token expires. Where too many wrong tokens
    come from, a token is only looked up that is among the valid ones. These are read every few seconds at most, so that
    wrong ones cost nothing, and lock nobody out who comes by the same address with a right one.
    """

    def __init__(self, database: Database, wrong_tokens: WrongTokens) -> None:
        self._database = database
        self._wrong_tokens = wrong_tokens
        self._use = TokenUse(database)
        self._known: dict[str, tuple[TokenRecord, datetime]] = {}
        """Tokens, and when they were looked up. What is no token is not kept: nobody can fill this up."""
        self._valid_ids: tuple[frozenset[str], datetime] | None = None
        """The ids of all valid tokens, and when they were looked up."""
        self._looking: dict[str, asyncio.Task[None]] = {}
        """What is being looked up: for all that come with one token meanwhile, one statement does."""

    async def caller(self, authorization: str | None, address: str = "") -> Caller:
        """Who comes with this header. Unauthenticated where nobody is to be let in, TooManyWrongTokens where that has been
        said too often; DatabaseUnavailable where it can not be known."""
        scheme, _, token = (authorization or "").partition(" ")
        parts = parts_of(token) if scheme.lower() == "bearer" else None
        if parts is None:
            raise Unauthenticated("Send an API token along: Authorization: Bearer runyard_…")
        id, secret = parts
        known = self._known.get(id)
        if known is not None and is_secret_of(known[0], secret):
            caller = self._caller_of(await self._look_up(id), secret)
        else:
            caller = await self._stranger(id, secret, address)
        if caller is None:
            raise Unauthenticated("This token is not valid: it may have expired, or been revoked.")
        return caller

    async def _stranger(self, id: str, secret: str, address: str) -> Caller | None:
        """Who comes with a token that was not right until now; None where it still is not."""
        wait = self._wrong_tokens.count(address, self._database.clock.now())
        if wait is not None and not await self._is_valid(id):
            raise self._refusal(address, wait)
        try:
            caller = self._caller_of(await self._look_up(id), secret)
        except BaseException:
            # Nobody knows whether it is wrong.
            if wait is None:
                self._wrong_tokens.take_back(address)
            raise
        if wait is None:
            if caller is not None:
                self._wrong_tokens.take_back(address)
        elif caller is None:
            raise self._refusal(address, wait)
        return caller

    def _refusal(self, address: str, wait: float) -> TooManyWrongTokens:
        self._wrong_tokens.tell(address)
        return TooManyWrongTokens(wait)

    def _caller_of(self, found: tuple[TokenRecord, datetime] | None, secret: str) -> Caller | None:
        caller = found and caller_of(found[0], secret, instant(self._database.clock.now()))
        if found and caller:
            self._use.note(found[0])
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
        known = self._known.get(id)
        if known is None or not self._is_fresh(known[1]):
            await self._once(id, partial(self._read, id))
        return self._known.get(id)

    async def _is_valid(self, id: str) -> bool:
        """Whether there is a valid token of this id, or was a few seconds ago."""
        if self._valid_ids is None or not self._is_fresh(self._valid_ids[1]):
            await self._once("all", self._read_valid_ids)
        return self._valid_ids is not None and id in self._valid_ids[0]

    def _is_fresh(self, looked_up_at: datetime) -> bool:
        return timedelta(0) <= self._database.clock.now() - looked_up_at < KEPT_FOR

    async def _once(self, name: str, read: Callable[[], Coroutine[None, None, None]]) -> None:
        """Read, once for all who ask meanwhile."""
        looking = self._looking.get(name)
        if looking is None:
            looking = self._looking[name] = asyncio.create_task(read(), name="token")
            looking.add_done_callback(lambda _: self._looking.pop(name))
        # Others wait for it, too.
        await asyncio.shield(looking)

    async def _read(self, id: str) -> None:
        now = self._database.clock.now()
        try:
            record = await self._database.read(lambda connection: read_token(connection, id))
        except DatabaseUnavailable:
            if id not in self._known:
                raise
            record = self._known[id][0]
        if record is None:
            self._known.pop(id, None)
        else:
            self._known[id] = record, now

    async def _read_valid_ids(self) -> None:
        now = self._database.clock.now()
        self._valid_ids = await self._database.read(read_valid_ids), now
