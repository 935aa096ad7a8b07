"""Messages between the coordinator and the executors of a worker.

The coordinator sends requests to the server and runs no code of the user. Executors run tasks and send no requests for the
worker. They exchange these dictionaries, which contain JSON values only: as JSON lines through a pipe, or as they are within
one process. All durations are in seconds. A receiver ignores unknown types and unknown keys.
"""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict

Pool: TypeAlias = Literal["main", "process"]
"""The executor for a run: `main` runs tasks of the pools `loop` and `thread`, `process` those of the pool `process`."""

CancelReason: TypeAlias = Literal["cancelled", "lease_lost", "drained", "lease_ended"]
"""Why a run is stopped.

`cancelled`: the run was cancelled at the server. `lease_lost`: the server has given the run to another worker or deleted
it; the outcome is `DropOutcome`. `drained`: the drain time has ended; a run that stops is released. `lease_ended`: an
exclusive task may have begun elsewhere, because renewals had no response; the outcome is `DropOutcome`.
"""


class StartMessage(TypedDict):
    """Run a task. `run` is the delivered `taskRun`; `delivery` counts its deliveries, from 1."""

    type: Literal["start"]
    lease: str
    run: dict[str, Any]
    delivery: int
    leaseExpiresAt: str
    worker: str


class CancelMessage(TypedDict):
    """Stop a run, which still sends `done`. Unknown leases are ignored: the run may have ended meanwhile."""

    type: Literal["cancel"]
    lease: str
    reason: CancelReason


class RenewedMessage(TypedDict):
    """A lease was renewed; `leaseExpiresAt` is the time of the server."""

    type: Literal["renewed"]
    lease: str
    leaseExpiresAt: str


class DrainMessage(TypedDict):
    """The worker stops: set `current_run().draining`. No further `start` follows."""

    type: Literal["drain"]


class StopMessage(TypedDict):
    """End when no run is left: run the stop hooks, then exit."""

    type: Literal["stop"]


class PingMessage(TypedDict):
    """Respond with `pong` from the event loop that runs the tasks. A blocked loop does not."""

    type: Literal["ping"]
    number: int


class TaskDescription(TypedDict):
    """What the coordinator must know of a task. `leaseSeconds` is None for the default of the worker."""

    key: str
    pool: Literal["loop", "thread", "process"]
    group: str
    leaseSeconds: float | None
    exclusive: bool
    grace: float | None
    timeout: NotRequired[float | None]


class ReadyMessage(TypedDict):
    """The first message of an executor: the user's module is imported and the start hooks have run."""

    type: Literal["ready"]
    tasks: list[TaskDescription]
    pid: int
    folders: NotRequired[list[str]]
    """Folders of the imported modules, if `--reload` needs them."""


class FailedMessage(TypedDict):
    """The first message of an executor instead of `ready`: the user's module cannot be imported."""

    type: Literal["failed"]
    error: str
    traceback: str


class ProgressMessage(TypedDict):
    """Progress of a run, at any rate: the coordinator sends at most one report a second for each run."""

    type: Literal["progress"]
    lease: str
    done: float
    total: float | None
    message: str | None


class StateOutcome(TypedDict):
    """The state to report: a `StateInput` without `details.transitionId`, which the coordinator adds."""

    state: dict[str, Any]


class ReleaseOutcome(TypedDict):
    """The run is released and due again after this delay."""

    release: float


class DropOutcome(TypedDict):
    """Nothing is reported: the lease was lost."""

    drop: Literal[True]


Outcome: TypeAlias = StateOutcome | ReleaseOutcome | DropOutcome


class DoneMessage(TypedDict):
    """A run has ended; sent exactly once for each `start`. `memoryMib` is the resident memory of the executor's process."""

    type: Literal["done"]
    lease: str
    outcome: Outcome
    seconds: float
    memoryMib: float


class PongMessage(TypedDict):
    """The response to the `ping` with this number. `onLoop` has the names of the runs on the event loop."""

    type: Literal["pong"]
    number: int
    onLoop: list[str]


class LostSlotsMessage(TypedDict):
    """The number of threads that are still busy with a run that was cancelled and has not stopped."""

    type: Literal["lost_slots"]
    count: int


ToExecutor: TypeAlias = StartMessage | CancelMessage | RenewedMessage | DrainMessage | StopMessage | PingMessage
FromExecutor: TypeAlias = ReadyMessage | FailedMessage | ProgressMessage | DoneMessage | PongMessage | LostSlotsMessage

OnMessage: TypeAlias = Callable[[Any], None]
"""Receives a `FromExecutor` message."""

OnDeath: TypeAlias = Callable[[str], None]
"""Receives the reason of an executor's death, for example `signal 9`."""


class ExecutorLink(Protocol):
    """The coordinator's end of an executor. All methods and callbacks run on the loop of the coordinator."""

    capacity: int
    """The number of runs that the executor runs at a time."""

    pool: Pool

    async def start(self, on_message: OnMessage, on_death: OnDeath) -> ReadyMessage:
        """Start the executor and return its first message.

        `on_message` receives all later messages. `on_death` is called once if the executor ends without `close`.

        Raises:
            ExecutorFailed: the user's module cannot be imported, or the executor ended before it was ready.
        """
        ...

    def send(self, message: ToExecutor) -> None:
        """Send a message without waiting. Messages to an executor that has died are dropped."""
        ...

    async def close(self, grace: float) -> None:
        """End the executor: `stop`, then by force after `grace` seconds. Does not call `on_death`."""
        ...


class ExecutorHost(Protocol):
    """What the coordinator offers to the supervisor of the executors. All methods are called on the coordinator's loop."""

    def add_executor(self, link: ExecutorLink, ready: ReadyMessage) -> None:
        """Give runs to an executor that has started."""
        ...

    def receive(self, link: ExecutorLink, message: Any) -> None:
        """Handle a message of an executor that was added; `on_message` of its `start`."""
        ...

    def retire_executor(self, link: ExecutorLink) -> None:
        """Give no further runs to an executor. Its runs continue; the supervisor sends `stop`."""
        ...

    def lose_executor(self, link: ExecutorLink, reason: str) -> None:
        """Remove an executor that has died. Its runs are reported as FAILED `ProcessDied` with this reason."""
        ...

    def fail(self, message: str) -> None:
        """End the worker with exit code 1, because executors cannot be started."""
        ...


class ExecutorFailed(Exception):
    """An executor could not be started. `traceback` is the remote one, or empty."""

    def __init__(self, error: str, traceback: str = "") -> None:
        super().__init__(error)
        self.traceback = traceback


class ClaimedRun(TypedDict):
    """A delivery as the server returns it. Unknown keys are ignored."""

    leaseId: str
    leaseExpiresAt: str
    attempt: int
    taskRun: dict[str, Any]


class LeaseState(TypedDict):
    """The result of a request that names a lease."""

    leaseId: str
    status: str
    cancelRequested: bool
    leaseExpiresAt: NotRequired[str | None]
