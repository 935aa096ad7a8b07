"""Refusals: the caller has to change something.

    Refusal
    ├── BadInput              BAD_USER_INPUT  an argument is not what it has to be
    ├── NotFound              NOT_FOUND       a mutation of something that is not there
    ├── Conflict              CONFLICT        a new thing names another one that is not there
    ├── CreationRefused       CONFLICT        the rules do not let a run begin in this state
    ├── QueueFull             QUEUE_FULL      as many runs of a key wait as may; later there may be room
    └── ServerStopping        UNAVAILABLE     this server takes no more work; another one, or the next start, will

A refusal has changed nothing. Orchestration's answers (REJECT, WAIT, ABORT) are no refusals; they are data.
"""

from collections.abc import Sequence


class Refusal(Exception):
    """Something that the caller can put right. The message is written for the caller."""

    code = ""
    retryable = False
    argument: str | None = None
    """The path of the argument that is at fault, with dots, where one is."""


class BadInput(Refusal):
    """An argument is not what it has to be."""

    code = "BAD_USER_INPUT"

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument


class NotFound(Refusal):
    """Nothing of this kind has this id."""

    code = "NOT_FOUND"

    def __init__(self, kind: str, id: str, *, by: str = "id") -> None:
        super().__init__(f"No {kind} has the {by} {id}.")
        self.kind = kind
        self.id = id


def deletions(kind: str, ids: Sequence[str], there: set[str]) -> list[str | Exception]:
    """What deleting these ids answers, where those in `there` were there: an id once, and then NotFound."""
    answers: list[str | Exception] = []
    remaining = set(there)
    for id in ids:
        answers.append(id if id in remaining else NotFound(kind, id))
        remaining.discard(id)
    return answers


class Conflict(Refusal):
    """What was to be created names something that is not there."""

    code = "CONFLICT"

    def __init__(self, argument: str, kind: str, id: str) -> None:
        super().__init__(f"No {kind} has the id {id}.")
        self.argument = argument
        self.kind = kind
        self.id = id


class CreationRefused(Refusal):
    """The rules do not let a run begin in the state that was asked for."""

    code = "CONFLICT"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.argument = "state"


class QueueFull(Refusal):
    """As many runs wait on one side of a key's queue as may. Asking again later is right."""

    code = "QUEUE_FULL"
    retryable = True

    def __init__(self, argument: str, task_key: str, *, is_retry: bool, most: int) -> None:
        side = "retry" if is_retry else "scheduled"
        super().__init__(
            f"The queue of {task_key!r:.60} is full: {most:,} runs wait on its {side} side, and no more may."
        )
        self.argument = argument
        self.task_key = task_key
        self.is_retry = is_retry


class ServerStopping(Refusal):
    """The server is on its way down. Asking again, perhaps elsewhere, is right."""

    code = "UNAVAILABLE"
    retryable = True

    def __init__(self) -> None:
        super().__init__("The server is stopping.")
