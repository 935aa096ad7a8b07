"""Client of Runyard: makes Python functions task runs, enqueues them, waits for their results and executes them.

    from runyard_client import Runyard

    runyard = Runyard()

    @runyard.task(retries=3)
    async def send_mail(to: str) -> None: ...

    handle = await send_mail.enqueue("ada@example.org")

`runyard-worker MODULE:runyard` executes the runs.
"""

from runyard_client.app import PartlyEnqueued as PartlyEnqueued
from runyard_client.app import Runyard as Runyard
from runyard_client.connection.outbox import Outbox as Outbox
from runyard_client.context import Run as Run
from runyard_client.context import current_run as current_run
from runyard_client.errors import BadParameters as BadParameters
from runyard_client.errors import Cancelled as Cancelled
from runyard_client.errors import Fail as Fail
from runyard_client.errors import NoResult as NoResult
from runyard_client.errors import NoRun as NoRun
from runyard_client.errors import NotAllowed as NotAllowed
from runyard_client.errors import NotSerialisable as NotSerialisable
from runyard_client.errors import QueueFull as QueueFull
from runyard_client.errors import Refused as Refused
from runyard_client.errors import RequestTooLarge as RequestTooLarge
from runyard_client.errors import ResultTooLarge as ResultTooLarge
from runyard_client.errors import Retry as Retry
from runyard_client.errors import RunyardError as RunyardError
from runyard_client.errors import ServerTooOld as ServerTooOld
from runyard_client.errors import ServerUnavailable as ServerUnavailable
from runyard_client.errors import Snooze as Snooze
from runyard_client.errors import TaskCancelled as TaskCancelled
from runyard_client.errors import TaskDeleted as TaskDeleted
from runyard_client.errors import TaskFailed as TaskFailed
from runyard_client.handle import Handle as Handle
from runyard_client.handle import Progress as Progress
from runyard_client.handle import RunStatus as RunStatus
from runyard_client.results.envelope import ResultStore as ResultStore
from runyard_client.results.file_store import FileResultStore as FileResultStore
from runyard_client.tasks.calls import Call as Call
from runyard_client.tasks.decorator import task as task
from runyard_client.tasks.retries import exponential as exponential
from runyard_client.tasks.task import AsyncTask as AsyncTask
from runyard_client.tasks.task import SyncTask as SyncTask
from runyard_client.tasks.task import Task as Task
