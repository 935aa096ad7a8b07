"""Findings of `runyard doctor`. docs/operations.md lists their codes."""

from dataclasses import dataclass
from enum import StrEnum


class FindingCode(StrEnum):
    """What a finding is about. Codes do not change, and the texts may."""

    ACCESS = "ACCESS"
    BACKUP = "BACKUP"
    CLOCK_SKEW = "CLOCK_SKEW"
    CONNECTION_LIMIT = "CONNECTION_LIMIT"
    DATABASE_SERVER = "DATABASE_SERVER"
    DATABASE_VERSION = "DATABASE_VERSION"
    DISK_SPACE = "DISK_SPACE"
    FILE = "FILE"
    FILE_ACCESS = "FILE_ACCESS"
    FILE_IN_USE = "FILE_IN_USE"
    LOST_POOLER = "LOST_POOLER"
    MIGRATIONS = "MIGRATIONS"
    NOTIFICATIONS = "NOTIFICATIONS"
    OPEN_TRANSACTION = "OPEN_TRANSACTION"
    POOLER = "POOLER"
    SETTING = "SETTING"
    SUSPENDED_SERVER = "SUSPENDED_SERVER"
    TOKENS = "TOKENS"
    UNKNOWN_VARIABLE = "UNKNOWN_VARIABLE"
    WRITE_AHEAD_LOG = "WRITE_AHEAD_LOG"


class Severity(StrEnum):
    """How serious a finding is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; for a problem, the text includes how to fix it."""

    code: FindingCode
    severity: Severity
    text: str

    @property
    def is_ok(self) -> bool:
        """Whether nothing must be fixed."""
        return self.severity is Severity.INFO

    def as_dict(self) -> dict[str, str]:
        """Return the finding as `runyard doctor --json` prints it."""
        return {"code": self.code, "severity": self.severity, "message": self.text}


def ok(code: FindingCode, text: str) -> Finding:
    """Return a finding that requires nothing."""
    return Finding(code, Severity.INFO, text)


def problem(code: FindingCode, text: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(code, Severity.ERROR, text)


def unknown_variable(text: str) -> Finding:
    """Return the finding for a variable that is not a setting."""
    return Finding(FindingCode.UNKNOWN_VARIABLE, Severity.WARNING, text)
