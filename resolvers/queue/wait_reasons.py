"""Why a queued run is not delivered yet."""

from enum import StrEnum

from db.records import QueueEntryRecord


class WaitReason(StrEnum):
    """Why a run waits in its queue. Of several reasons, the first one applies."""

    QUEUE_PAUSED = "QUEUE_PAUSED"
    RETRY_DELAY = "RETRY_DELAY"
    NOT_DUE = "NOT_DUE"
    NO_SLOT = "NO_SLOT"
    NO_WORKER = "NO_WORKER"
    IN_QUEUE = "IN_QUEUE"


def wait_reason(entry: QueueEntryRecord, now: str, *, is_paused: bool, has_worker: bool) -> WaitReason | None:
    """Return why the run waits at `now`; None when it is leased.

    `has_worker`: whether a worker for the task key is connected.
    """
    if entry.lease_id is not None:
        return None
    if is_paused:
        return WaitReason.QUEUE_PAUSED
    if entry.available_at > now:
        return WaitReason.RETRY_DELAY if entry.is_retry else WaitReason.NOT_DUE
    if entry.waits_for_slot:
        return WaitReason.NO_SLOT
    return WaitReason.IN_QUEUE if has_worker else WaitReason.NO_WORKER
