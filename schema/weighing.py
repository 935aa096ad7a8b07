"""Weighs the long values of an answer: what is read once can be answered a thousand times, under as many names.

Values are put aside once there are too many, so that completing goes on and takes no memory; the operation is then answered
with an error alone. Rows that go straight into an answer are not weighed again: they were while they were read.
"""

from contextvars import ContextVar

from resolvers.errors import Refusal

LONG = 1000
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
    """What the long values of one answer come to, in characters."""

    __slots__ = ("_left", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def add(self, text: str) -> str:
        """The text; nothing of it where the answer has become too large."""
        self._left -= len(text)
        return "" if self._left < 0 else text

    def refusal(self) -> AnswerTooLarge | None:
        """What to answer instead, where the answer is too large. Weighing begins anew."""
        is_exceeded = self._left < 0
        self._left = self._most
        return AnswerTooLarge(self._most) if is_exceeded else None


_of_operation: ContextVar[Weight | None] = ContextVar("weight", default=None)


def begin_answer(most: int) -> Weight:
    """Weigh what this task, and those that it begins, complete from now on."""
    weight = Weight(most)
    _of_operation.set(weight)
    return weight


def weighed(text: str) -> str:
    """The text, added to the weight of the operation's answer."""
    weight = _of_operation.get()
    return text if weight is None else weight.add(text)
