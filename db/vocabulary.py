"""The enumerations that are stored in columns."""

from enum import StrEnum


class StateType(StrEnum):
    """What kind of state a run is in. Stored by name."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"

    @property
    def is_terminal(self) -> bool:
        """Whether a run in this state has ended. PAUSED and CANCELLING have not."""
        return self in TERMINAL

    @property
    def default_name(self) -> str:
        """The name of a state of this type that nobody gave a name: `Scheduled`, `Pending`, ..."""
        return self.value.capitalize()


TERMINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})
"""The states that a run ends in."""
