"""What the worker does after a request: continue, repeat it later, or exit."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from runyard_client.errors import NotAllowed, QueueFull, Refused, ServerTooOld, ServerUnavailable
from runyard_client.transport.back_off import BackOff
from runyard_client.transport.tokens import InvalidToken
from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")

REFUSED_LOG_SECONDS = 60.0
EXIT_FAILED = 1
EXIT_NOT_ALLOWED = 3


class Unanswered(Exception):
    """The request must be repeated, not before `delay` seconds. It may have been executed."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"Repeat after {delay:g} seconds.")
        self.delay = delay


class WorkerExit(Exception):
    """The worker must exit with this code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Requests(Protocol):
    """What the worker needs of a `Transport`."""

    async def execute(self, operation: str, variables: Mapping[str, Any], *, timeout: float = 30.0) -> Any: ...  # noqa: ASYNC109


class OperationBackOff:
    """Delays between the attempts of one operation. They start from the beginning after a time without errors."""

    def __init__(self, settings: WorkerSettings, chance: Callable[[], float]) -> None:
        self._settings = settings
        self._back_off = BackOff(chance)
        self._failed_at: float | None = None

    def next_delay(self, now: float) -> float:
        """Return the delay after a failure at this time."""
        if self._failed_at is not None and now - self._failed_at >= self._healthy_after:
            self._back_off.reset()
        self._failed_at = now
        self._delay = min(self._back_off.next_delay(), self._settings.max_back_off_seconds)
        return self._delay

    @property
    def _healthy_after(self) -> float:
        # A failure that comes as soon as the delay has ended is no sign of health.
        return self._settings.healthy_seconds + self._delay


class Connection:
    """Executes the requests of a worker and decides what an error means.

    Args:
        clock: monotonic time in seconds.
        chance: returns a random number from 0 to 1.
    """

    def __init__(
        self,
        transport: Requests,
        settings: WorkerSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.answered_at = clock()
        """When the server has responded last; at first, when the worker started."""
        self._transport, self._settings = transport, settings
        self._clock, self._chance, self._sleep = clock, chance, sleep
        self._back_offs: dict[str, OperationBackOff] = {}
        self._refused_at: float | None = None
        self._refused_logged_at = float("-inf")
        self._is_away = False

    async def execute(self, operation: str, variables: Mapping[str, Any], *, wait_seconds: float = 0.0) -> Any:
        """Execute an operation that waits up to `wait_seconds` at the server.

        Raises:
            Unanswered: repeat the request later.
            RequestTooLarge: the request or the response exceeds a limit.
            Refused: the request is invalid; it was logged.
            WorkerExit: the worker must exit.
        """
        seconds = self._settings.request_seconds + wait_seconds
        try:
            value = await self._transport.execute(operation, variables, timeout=seconds)
        except NotAllowed as error:
            raise self._handle_not_allowed(operation, error) from error
        except (ServerUnavailable, QueueFull, InvalidToken, OSError) as error:
            raise self._handle_unavailable(operation, error) from error
        except ServerTooOld as error:
            raise WorkerExit(EXIT_FAILED, str(error)) from error
        except Refused as error:
            if error.code == "INTERNAL":
                raise self._handle_unavailable(operation, error) from error
            logger.error("%s was refused (%s): %s", operation, error.code, error)
            raise
        self._note_response()
        return value

    async def pause(self, delay: float) -> None:
        """Wait before a request is repeated."""
        await self._sleep(delay)

    def next_delay(self, operation: str) -> float:
        """Return the delay before the operation is repeated after a failure now."""
        back_off = self._back_offs.get(operation)
        if back_off is None:
            back_off = self._back_offs[operation] = OperationBackOff(self._settings, self._chance)
        return back_off.next_delay(self._clock())

    def _handle_unavailable(self, operation: str, error: Exception) -> Unanswered:
        if not self._is_away:
            self._is_away = True
            logger.warning("The server is not available; the worker repeats its requests. %s", error)
        retry_after = getattr(error, "retry_after", None) or 0.0
        return Unanswered(max(self.next_delay(operation), retry_after))

    def _handle_not_allowed(self, operation: str, error: NotAllowed) -> Exception:
        if error.code != "UNAUTHENTICATED":
            return WorkerExit(
                EXIT_NOT_ALLOWED,
                f"The token does not allow {operation}: {error} The worker's token must have the scope `work`; tasks that"
                " enqueue runs need `write`, and those that wait for runs need `read`.",
            )
        now = self._clock()
        if self._refused_at is None:
            self._refused_at = now
        if now - self._refused_at >= self._settings.refused_seconds:
            text = f"The server has refused the token for {self._settings.refused_seconds:g} seconds: {error}"
            return WorkerExit(EXIT_NOT_ALLOWED, text)
        if now - self._refused_logged_at >= REFUSED_LOG_SECONDS:
            self._refused_logged_at = now
            logger.error("The server refuses the token: %s The worker reads it again until it is valid.", error)
        return Unanswered(self.next_delay(operation))

    def _note_response(self) -> None:
        self.answered_at = self._clock()
        self._refused_at = None
        if self._is_away:
            self._is_away = False
            logger.info("The server is available again.")
