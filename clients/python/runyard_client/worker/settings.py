"""Settings of a worker: defaults, limits, and the variables RUNYARD_WORKER_… of the environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from runyard_client.errors import RunyardError

ENVIRONMENT_PREFIX = "RUNYARD_WORKER_"
MAX_SECONDS = 86_400.0
LOG_FORMATS = ("auto", "console", "json")


class InvalidSetting(RunyardError, ValueError):
    """A setting of the worker is invalid. `setting` is its name, `value` what was given."""

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"`{setting}` must be {expected}; got {value!r}.")
        self.setting = setting
        self.value = value


def _cpu_count() -> int:
    return os.cpu_count() or 1


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of one worker. Durations are in seconds. Raises InvalidSetting for a value outside its limits."""

    concurrency: int = 20
    """Runs of the pools `loop` and `thread` that are executed at a time."""
    processes: int = 1
    """Child processes for these runs. 0 executes them in the process of the worker."""
    cpu_processes: int = field(default_factory=_cpu_count)
    """Runs of the pool `process` that are executed at a time, each in a process of its own."""
    groups: tuple[str, ...] = ()
    """Execute only tasks of these groups. Empty: of all groups."""
    tasks: tuple[str, ...] = ()
    """Execute only tasks with these keys. Empty: with all keys."""
    except_: tuple[str, ...] = ()
    """Do not execute tasks with these keys."""
    lease_seconds: float | None = None
    """Lease time for tasks without one of their own. None: 60."""
    drain_seconds: float = 25.0
    """How long runs may continue after the first signal to stop."""
    recycle_runs: int | None = None
    """Replace a child process after this many runs. None: never."""
    recycle_mib: int | None = None
    """Replace a child process whose resident memory exceeds this size, in MiB. None: never."""
    name: str = field(default_factory=_default_name)
    """`workerName` at the server."""
    reload: str | None = None
    """Restart the child processes when a file below this folder changes. An empty text: the folders of the modules."""
    health: str | None = None
    """HOST:PORT of the health check. None: no health check."""
    uvloop: bool = False
    once: bool = False
    """Execute the runs that are due, then stop."""
    log_format: str = "auto"

    claim_wait_seconds: float = 30.0
    """How long a claim waits at the server for a due run."""
    claim_settle_seconds: float = 1.0
    """A claim is not cut off before this time, because the server does not notice the end of a younger connection."""
    confirm_seconds: float = 2.0
    """A started run is confirmed by a renewal after this time, unless its report is sent first."""
    signals_pause_seconds: float = 1.0
    """Shortest time between two queries for the signals of leases."""
    progress_seconds: float = 1.0
    """Shortest time between two reports of progress."""
    ping_seconds: float = 1.0
    """How long an event loop may be blocked before the worker warns and pauses its claims."""
    batch_seconds: float = 0.002
    """How long a report waits for those of other runs that are executing."""
    batch_items: int = 500
    batch_bytes: int = 512 * 1024
    """Limits of the reports of one request."""
    request_seconds: float = 30.0
    """Time limit of a request, beside the time that it waits at the server."""
    max_back_off_seconds: float = 5.0
    healthy_seconds: float = 10.0
    """The delay between attempts starts from the beginning after this time without errors."""
    refused_seconds: float = 300.0
    """The worker exits when its token has been refused for this time."""
    cancel_repeat_seconds: float = 5.0
    """A cancelled task of the event loop that continues is cancelled again after this time."""
    kill_after_seconds: float = 5.0
    """A run of the pool `process` gets SIGTERM this long after its cancellation, and SIGKILL after as long again."""
    tell_seconds: float = 5.0
    """How long the worker repeats the reports of its last runs after the drain time."""
    stop_seconds: float = 3.0
    """How long stopped runs have to end before their processes are killed, after the drain time."""

    def __post_init__(self) -> None:
        self._check_numbers()
        if not self.name:
            raise InvalidSetting("name", self.name, "a text that is not empty")
        if self.health is not None and not _is_address(self.health):
            raise InvalidSetting("health", self.health, "HOST:PORT")
        if self.log_format not in LOG_FORMATS:
            raise InvalidSetting("log_format", self.log_format, f"one of {', '.join(LOG_FORMATS)}")

    def _check_numbers(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidSetting(name, value, f"between {low:,} and {high:,}")

    @property
    def default_lease_seconds(self) -> float:
        return 60.0 if self.lease_seconds is None else self.lease_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the variables RUNYARD_WORKER_… . `overrides` that are not None take precedence.

        Raises:
            InvalidSetting: a value is outside its limits or not of its type; it names the variable.
        """
        values = read_environment(os.environ if environment is None else environment)
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and int(port) < 65_536


LIMITS: dict[str, tuple[float, float]] = {
    "concurrency": (1, 10_000),
    "processes": (0, 1_000),
    "cpu_processes": (1, 1_000),
    "lease_seconds": (1, MAX_SECONDS),
    "drain_seconds": (0, MAX_SECONDS),
    "recycle_runs": (1, 1_000_000_000),
    "recycle_mib": (1, 1_000_000_000),
    "claim_wait_seconds": (0, 60),
    "claim_settle_seconds": (0, 60),
    "confirm_seconds": (0, 10),
    "signals_pause_seconds": (0, 60),
    "progress_seconds": (0, 3_600),
    "ping_seconds": (0.05, 3_600),
    "batch_seconds": (0, 1),
    "batch_items": (1, 1_000),
    "batch_bytes": (1, 1_000_000_000),
    "request_seconds": (0.1, 3_600),
    "max_back_off_seconds": (0.01, 3_600),
    "healthy_seconds": (0, 3_600),
    "refused_seconds": (0, MAX_SECONDS),
    "cancel_repeat_seconds": (0.05, 3_600),
    "kill_after_seconds": (0.05, 3_600),
    "tell_seconds": (0, 3_600),
    "stop_seconds": (0, 3_600),
}


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the environment contains, converted to their types. Empty variables count as unset."""
    values: dict[str, Any] = {}
    for each in fields(WorkerSettings):
        variable = ENVIRONMENT_PREFIX + each.name.strip("_").upper()
        if text := environment.get(variable):
            values[each.name] = _convert(variable, text, each.type)
    return values


def _convert(variable: str, text: str, annotation: Any) -> Any:
    type_name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if type_name.startswith("tuple"):
        return split_list(text)
    if type_name.startswith("bool"):
        return _read_flag(variable, text)
    if type_name.startswith("int"):
        return _read_number(variable, text, int)
    if type_name.startswith("float"):
        return _read_number(variable, text, float)
    return text


def split_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated list; spaces around the items and empty items are ignored."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _read_flag(variable: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise InvalidSetting(variable, text, "true or false")


def _read_number(variable: str, text: str, convert: type[int] | type[float]) -> int | float:
    try:
        return convert(text)
    except ValueError:
        raise InvalidSetting(variable, text, "an integer" if convert is int else "a number") from None
