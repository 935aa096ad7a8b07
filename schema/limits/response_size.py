"""Limits how much an operation reads and returns. A value that is read once can be returned under a thousand aliases.

Beyond the limit, long values are replaced by empty texts: completion continues without taking memory, and the operation
then returns an error only. Rows that are completed without records are counted while they are read, and not again.
"""

from contextvars import ContextVar

from db.runtime.memory_budget import (
    MemoryBudgetExceeded,
    MemoryReservation,
    ReadBudget,
    ReadTooLarge,
    SharedMemoryBudget,
    set_operation_budget,
)
from resolvers.errors import ErrorCode, Refusal

COUNTED_TEXT_LENGTH = 200
"""Minimum length of texts that count towards the response size. The limit on fields bounds shorter ones."""


class ResponseTooLarge(Refusal):
    """The response exceeds its size limit."""

    code = ErrorCode.RESPONSE_TOO_LARGE

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            f"The response exceeds the limit of {max_bytes:,} bytes. Request fewer items, or fewer fields of each. "
            "Changes made by a mutation are kept."
        )


class ResponseSize:
    """Size of the data that one operation reads, and of the long values in its response in characters.

    The reservation in the shared budget ends with `release`, or when this object is garbage-collected: keep it until
    the response has been sent. Only queries can be refused for lack of memory. Mutations must report what they have
    written, and the events of a subscription are sent only once.
    """

    def __init__(self, max_bytes: int, shared_budget: SharedMemoryBudget, *, can_be_refused: bool = False) -> None:
        self._max_bytes = max_bytes
        self._reservation = MemoryReservation(shared_budget, can_be_refused=can_be_refused)
        self._read_budget = ReadBudget(max_bytes, self._reservation)
        self._response_budget = ReadBudget(max_bytes, self._reservation)

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Release the reservation, after the response has been sent."""
        self._reservation.release()

    @property
    def is_small(self) -> bool:
        """Whether the response has no reservation in the shared budget, like most responses."""
        return self._reservation.is_empty

    def start(self) -> None:
        """Count what this task and the tasks it creates read and complete from now on."""
        set_operation_budget(self._read_budget)
        _current_response_budget.set(self._response_budget)

    def start_event(self) -> None:
        """Count completed values only, for one event: what a stream reads does not belong to a single event."""
        _current_response_budget.set(self._response_budget)

    def limit_error(self) -> Exception | None:
        """Return the error to send instead of a response that exceeds a limit, or None."""
        try:
            self._response_budget.check()
        except ReadTooLarge:
            return ResponseTooLarge(self._max_bytes)
        except MemoryBudgetExceeded as error:
            return error
        return None


class ResponseSizeLimit:
    """The limits on the size of one response and of all responses in flight together, in bytes."""

    def __init__(self, max_bytes: int, total_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._shared_budget = SharedMemoryBudget(total_bytes)

    def start(self, *, can_be_refused: bool) -> ResponseSize:
        """Count what the current task reads and completes from now on."""
        response_size = ResponseSize(self._max_bytes, self._shared_budget, can_be_refused=can_be_refused)
        response_size.start()
        return response_size

    def start_event(self) -> ResponseSize:
        """Count what the current task completes for one event of a subscription."""
        response_size = ResponseSize(self._max_bytes, self._shared_budget)
        response_size.start_event()
        return response_size


_current_response_budget: ContextVar[ReadBudget | None] = ContextVar("response_budget", default=None)


def count_characters(text: str) -> str:
    """Count the text towards the response size and return it. Beyond the limit, return an empty text."""
    response_budget = _current_response_budget.get()
    return text if response_budget is None or response_budget.consume(len(text)) else ""
