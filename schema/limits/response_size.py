"""Weighs what an operation reads and answers: what is read once can be answered a thousand times, under as many names.

Long values are put aside once there are too many, so that completing goes on and takes no memory; the operation is then
answered with an error alone. Rows that go straight into an answer are not weighed again: they were while they were read.
"""

from contextvars import ContextVar

from resolvers.errors import Refusal
from resolvers.storage import Allowance, Crowd, DatabaseError, Share, TooMuchToRead, begin_operation

LONG = 200
"""Characters from which on a text is weighed: that many an answer can have for each of its fields, which are limited."""


class AnswerTooLarge(Refusal):
    """The answer would be larger than one may be."""

    code = "ANSWER_TOO_LARGE"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The answer would have more than {most:,} bytes; ask for fewer runs at once, or for less of each. "
            "What a mutation has changed stays changed."
        )


class Weight:
    """What one operation reads, and what the long values of its answer come to in characters.

    Its room is for others again when it is ended, or nobody holds it any more: hold it until the answer is sent. Only a
    query gives way to others: what a mutation has written, and an event that nobody gets again, has to be told.
    """

    def __init__(self, most: int, crowd: Crowd, *, gives_way: bool = False) -> None:
        self._most = most
        self._share = Share(crowd, gives_way=gives_way)
        self._read = Allowance(most, self._share)
        self._answered = Allowance(most, self._share)

    def __del__(self) -> None:
        self.end()

    def end(self) -> None:
        """Make room for others: the answer is sent."""
        self._share.end()

    @property
    def is_small(self) -> bool:
        """Whether it is an answer like most."""
        return self._share.is_small

    def begin(self) -> None:
        """Weigh what this task, and those that it begins, read and complete from now on."""
        begin_operation(self._read)
        _of_operation.set(self._answered)

    def begin_event(self) -> None:
        """As `begin`, for an event: what streams read is not read for one of them."""
        _of_operation.set(self._answered)

    def refusal(self) -> Exception | None:
        """What to answer instead, where the answer is too large."""
        try:
            self._answered.check()
        except TooMuchToRead:
            return AnswerTooLarge(self._most)
        except DatabaseError as error:
            return error
        return None


_of_operation: ContextVar[Allowance | None] = ContextVar("answered", default=None)


def weighed(text: str) -> str:
    """The text, added to what the operation answers; nothing of it where that is too much."""
    answered = _of_operation.get()
    return text if answered is None or answered.take(len(text)) else ""
