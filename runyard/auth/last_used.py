"""Records when tokens were last used, at most once an hour for each. Requests neither wait for it nor fail with it."""

import asyncio
import logging
from datetime import datetime, timedelta

from db.database import Database
from db.errors import DatabaseUnavailable
from db.records import TokenRecord
from db.runtime.timestamps import parse_timestamp
from resolvers.api_tokens import LAST_USED_INTERVAL_SECONDS, record_token_use

log = logging.getLogger("runyard.auth.authenticator")

RECORD_INTERVAL = timedelta(seconds=LAST_USED_INTERVAL_SECONDS)
RETRY_DELAY = timedelta(minutes=1)
"""Delay before a write that failed because the database was unavailable is retried."""


class LastUsedRecorder:
    """Records the use of tokens in the background."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recorded_at: dict[str, datetime] = {}
        """Contains verified tokens only, so clients cannot fill it."""
        self._pending_ids: set[str] = set()
        self._write_task: asyncio.Task[None] | None = None

    def record_use(self, record: TokenRecord) -> None:
        """Record that a token authenticated a caller. Returns at once; the write runs in the background."""
        recorded_at = self._recorded_at.get(record.id)
        if recorded_at is None and record.last_used_at is not None:
            recorded_at = self._recorded_at[record.id] = parse_timestamp(record.last_used_at)
        now = self._database.clock.now()
        if recorded_at is not None and timedelta(0) <= now - recorded_at < RECORD_INTERVAL:
            return
        self._recorded_at[record.id] = now
        self._pending_ids.add(record.id)
        if self._write_task is None:
            self._write_task = asyncio.create_task(self._write(), name="token use")

    async def _write(self) -> None:
        """Write all pending uses as one batch, then those added in the meantime. Only one write runs at a time."""
        while self._pending_ids:
            ids, self._pending_ids = sorted(self._pending_ids), set()
            try:
                await self._database.write_all(record_token_use, ids)
            except DatabaseUnavailable as error:
                log.warning("Could not record the use of %d tokens, will retry: %s", len(ids), error)
                self._recorded_at.update(dict.fromkeys(ids, self._database.clock.now() - RECORD_INTERVAL + RETRY_DELAY))
            except Exception:
                # No request depends on this write, so the error is logged and not raised.
                log.exception("Could not record the use of tokens")
        self._write_task = None
