"""Authentication by API tokens, sent as `Authorization: Bearer …`."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from math import ceil

from starlette.requests import HTTPConnection

from db.database import Database
from db.errors import DatabaseUnavailable
from db.records import TokenRecord
from db.runtime.timestamps import format_timestamp, parse_timestamp
from resolvers.api_tokens import Caller, authenticate_token, has_secret, parse_token, read_token, read_valid_ids
from runyard.auth.failed_attempts import FailedAttempts
from runyard.auth.last_used import LastUsedRecorder

TOKEN_CACHE_TTL = timedelta(seconds=5)
"""Time for which a token that was looked up is not read again. A revoked token can be accepted for this time."""


class Unauthenticated(Exception):
    """The request has no valid token."""


class TooManyFailedAttempts(Exception):
    """The address has reached its limit of invalid tokens."""

    def __init__(self, wait_seconds: float) -> None:
        self.retry_after_seconds = ceil(wait_seconds)
        super().__init__(f"Too many invalid tokens from this address. Retry in {self.retry_after_seconds} seconds.")


def client_address(connection: HTTPConnection) -> str:
    """Return the IP address of the client of a request or WebSocket; empty if it has none."""
    return connection.client.host if connection.client else ""


class Authenticator:
    """Authenticates callers by their API tokens, with a cache of the tokens in use.

    While the database is unavailable, cached tokens remain valid until they expire. When an address has reached its
    limit of invalid tokens, its tokens are looked up only if their id is that of a valid token. The valid ids are read
    at most once in `TOKEN_CACHE_TTL`, so more invalid tokens cost no statements, and clients with a valid token are not
    locked out by others at the same address.
    """

    def __init__(self, database: Database, failed_attempts: FailedAttempts) -> None:
        self._database = database
        self._failed_attempts = failed_attempts
        self._last_used_recorder = LastUsedRecorder(database)
        self._token_cache: dict[str, tuple[TokenRecord, datetime]] = {}
        """Tokens by id, and when they were looked up. Unknown ids are not cached, so clients cannot fill the cache."""
        self._valid_ids: tuple[frozenset[str], datetime] | None = None
        """Ids of all valid tokens, and when they were read."""
        self._pending_reads: dict[str, asyncio.Task[None]] = {}
        """Reads in progress. Concurrent requests with the same token share one statement."""

    async def authenticate(self, authorization: str | None, address: str = "") -> Caller:
        """Return the caller that an Authorization header identifies.

        Raises Unauthenticated if there is no valid token, TooManyFailedAttempts if the address has reached its limit of
        invalid tokens, and DatabaseUnavailable if the token cannot be looked up.
        """
        scheme, _, token = (authorization or "").partition(" ")
        parts = parse_token(token) if scheme.lower() == "bearer" else None
        if parts is None:
            raise Unauthenticated("An API token is required. Send it in the header Authorization: Bearer runyard_…")
        id, secret = parts
        cached = self._token_cache.get(id)
        if cached is not None and has_secret(cached[0], secret):
            caller = self._verify_token(await self._find_token(id), secret)
        else:
            caller = await self._authenticate_uncached(id, secret, address)
        if caller is None:
            raise Unauthenticated("The token is invalid, or it has expired or been revoked.")
        return caller

    async def _authenticate_uncached(self, id: str, secret: str, address: str) -> Caller | None:
        """Return the caller of a token that is not cached with this secret; None if the token is invalid."""
        wait_seconds = self._failed_attempts.record_attempt(address, self._database.clock.now())
        if wait_seconds is not None and not await self._is_valid(id):
            raise self._too_many_attempts(address, wait_seconds)
        try:
            caller = self._verify_token(await self._find_token(id), secret)
        except BaseException:
            # The token could not be verified, so the attempt does not count as failed.
            if wait_seconds is None:
                self._failed_attempts.undo_attempt(address)
            raise
        if wait_seconds is None:
            if caller is not None:
                self._failed_attempts.undo_attempt(address)
        elif caller is None:
            raise self._too_many_attempts(address, wait_seconds)
        return caller

    def _too_many_attempts(self, address: str, wait_seconds: float) -> TooManyFailedAttempts:
        self._failed_attempts.log_limit_reached(address)
        return TooManyFailedAttempts(wait_seconds)

    def _verify_token(self, cached_token: tuple[TokenRecord, datetime] | None, secret: str) -> Caller | None:
        caller = cached_token and authenticate_token(
            cached_token[0], secret, format_timestamp(self._database.clock.now())
        )
        if cached_token and caller:
            self._last_used_recorder.record_use(cached_token[0])
        return caller

    async def wait_until_invalid(self, caller: Caller) -> None:
        """Return when the caller's token has expired or been revoked."""
        clock, never = self._database.clock, asyncio.Event()
        while True:
            cached_token = await self._find_token(caller.token_id)
            if cached_token is None or not cached_token[0].is_valid(format_timestamp(clock.now())):
                return
            record, looked_up_at = cached_token
            until = looked_up_at + TOKEN_CACHE_TTL
            await clock.wait(never, min(until, parse_timestamp(record.expires_at)) if record.expires_at else until)

    async def _find_token(self, id: str) -> tuple[TokenRecord, datetime] | None:
        cached = self._token_cache.get(id)
        if cached is None or not self._is_fresh(cached[1]):
            await self._read_single_flight(id, partial(self._refresh_token, id))
        return self._token_cache.get(id)

    async def _is_valid(self, id: str) -> bool:
        """Return whether a valid token has this id, as of at most `TOKEN_CACHE_TTL` ago."""
        if self._valid_ids is None or not self._is_fresh(self._valid_ids[1]):
            await self._read_single_flight("all", self._refresh_valid_ids)
        return self._valid_ids is not None and id in self._valid_ids[0]

    def _is_fresh(self, looked_up_at: datetime) -> bool:
        return timedelta(0) <= self._database.clock.now() - looked_up_at < TOKEN_CACHE_TTL

    async def _read_single_flight(self, name: str, read: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a read once for all concurrent callers with the same name."""
        pending = self._pending_reads.get(name)
        if pending is None:
            pending = self._pending_reads[name] = asyncio.create_task(read(), name="token")
            pending.add_done_callback(lambda _: self._pending_reads.pop(name))
        # Shielded, because other callers wait for the same read.
        await asyncio.shield(pending)

    async def _refresh_token(self, id: str) -> None:
        now = self._database.clock.now()
        try:
            record = await self._database.read(lambda connection: read_token(connection, id))
        except DatabaseUnavailable:
            if id not in self._token_cache:
                raise
            record = self._token_cache[id][0]
        if record is None:
            self._token_cache.pop(id, None)
        else:
            self._token_cache[id] = record, now

    async def _refresh_valid_ids(self) -> None:
        now = self._database.clock.now()
        self._valid_ids = await self._database.read(read_valid_ids), now
