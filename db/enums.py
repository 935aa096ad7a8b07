"""Enumerations: values of columns, and the sort orders of lists."""

from enum import StrEnum


class Scope(StrEnum):
    """Permission of an API token. Stored by value."""

    READ = "read"
    WRITE = "write"
    WORK = "work"


class StateType(StrEnum):
    """Type of a state. Stored by value."""

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
        """Whether a run in this state has ended. PAUSED and CANCELLING runs have not."""
        return self in TERMINAL

    @property
    def default_name(self) -> str:
        """Name of a state of this type when the client sends none: `Scheduled`, `Pending`, ..."""
        return self.value.capitalize()


TERMINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})
"""State types of runs that have ended."""


class TaskRunSort(StrEnum):
    """Sort order of task runs: a column and a direction. Ties are broken by `id`, in the same direction."""

    ID_DESC = "ID_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_ASC = "END_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"
    START_TIME_ASC = "START_TIME_ASC"
    START_TIME_DESC = "START_TIME_DESC"
    CREATED_ASC = "CREATED_ASC"
    CREATED_DESC = "CREATED_DESC"


class FlowRunSort(StrEnum):
    """Sort order of flow runs. Ties are broken by `id`, in the same direction."""

    ID_DESC = "ID_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_ASC = "END_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"
    START_TIME_ASC = "START_TIME_ASC"
    START_TIME_DESC = "START_TIME_DESC"
    CREATED_ASC = "CREATED_ASC"
    CREATED_DESC = "CREATED_DESC"


class FlowSort(StrEnum):
    """Sort order of flows. Ties are broken by `id`, in the same direction."""

    ID_DESC = "ID_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    CREATED_ASC = "CREATED_ASC"
    CREATED_DESC = "CREATED_DESC"


class DeploymentSort(StrEnum):
    """Sort order of deployments. Ties are broken by `id`, in the same direction."""

    ID_DESC = "ID_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    CREATED_ASC = "CREATED_ASC"
    CREATED_DESC = "CREATED_DESC"
