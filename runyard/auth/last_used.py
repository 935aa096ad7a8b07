"""When tokens were last used: noted once an hour for each, by the way. No request waits for it, or fails with it."""

import asyncio
import logging
from datetime import datetime, timedelta

from db.database import Database
from db.records import TokenRecord
from db.runtime.timestamps import moment
from resolvers.api_tokens import USE_NOTED_SECONDS, note_use_of_tokens
from resolvers.storage import DatabaseUnavailable

log = logging.getLogger("runyard.auth.authenticator")

EVERY = timedelta(seconds=USE_NOTED_SECONDS)
TRIED_AGAIN_AFTER = timedelta(minutes=1)
"""How long a database that is away is not asked again to note the use of a token."""


class TokenUse:
    """The tokens that let somebody in and are still to be noted, and when that was done with the others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted_at: dict[str, datetime] = {}
        """Of tokens that are right, which nobody can make up."""
        self._waiting: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    def note(self, record: TokenRecord) -> None:
        """The token has let somebody in. Returns at once; it is written when the database has time."""
        noted_at = self._noted_at.get(record.id)
        if noted_at is None and record.last_used_at is not None:
            noted_at = self._noted_at[record.id] = moment(record.last_used_at)
        now = self._database.clock.now()
        if noted_at is not None and timedelta(0) <= now - noted_at < EVERY:
            return
        self._noted_at[record.id] = now
        self._waiting.add(record.id)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="token use")

    async def _write(self) -> None:
        """Write what waits, all at once, and what has come meanwhile after it: never more than one write at a time."""
        while self._waiting:
            ids, self._waiting = sorted(self._waiting), set()
            try:
                await self._database.write_all(note_use_of_tokens, ids)
            except DatabaseUnavailable as error:
                log.warning("The use of %d tokens could not be noted; that is tried again: %s", len(ids), error)
                self._noted_at.update(dict.fromkeys(ids, self._database.clock.now() - EVERY + TRIED_AGAIN_AFTER))
            except Exception:
                # It is no part of what anybody asked for; it is told whole.
                log.exception("The use of tokens could not be noted.")
        self._writing = None
