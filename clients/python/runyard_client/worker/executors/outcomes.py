"""The outcome of a run: the state to report, a release, or nothing."""

from __future__ import annotations

from typing import Any

from runyard_client.worker.messages import Outcome


def completed(data: Any) -> Outcome:
    """Outcome of a task that has returned. `data` is the data of the state."""
    return {"state": {"type": "COMPLETED", "data": data}}


def failed(message: str, data: Any, *, retriable: bool, name: str | None = None) -> Outcome:
    """Outcome of a task that has failed."""
    state: dict[str, Any] = {"type": "FAILED", "message": message, "data": data}
    if name:
        state["name"] = name
    if not retriable:
        state["details"] = {"retriable": False}
    return {"state": state}


def stopped(reason: str | None, *, timeout: float | None, attempt: int, worker: str) -> Outcome:
    """Outcome of a run whose work has stopped because it had to, for one of the reasons of `Run.cancel_reason`."""
    match reason:
        case "drained":
            return {"release": 0.0}
        case "cancelled":
            return {"state": {"type": "CANCELLED", "message": "The run was cancelled and its work has stopped."}}
        case "timeout":
            return timed_out(timeout, attempt=attempt, worker=worker)
        case _:  # lease_lost, lease_ended
            return {"drop": True}


def timed_out(timeout: float | None, *, attempt: int, worker: str) -> Outcome:
    """Outcome of an attempt that was stopped because it exceeded its timeout, in seconds."""
    text = f"The attempt exceeded its timeout of {timeout or 0:g} seconds."
    error = {"type": "TimeoutError", "message": text, "traceback": "", "attempt": attempt, "worker": worker}
    return failed(f"TimedOut: {text}", {"error": {**error, "retriable": True}}, retriable=True, name="TimedOut")


def outcome_name(outcome: Outcome) -> str:
    """Return the outcome as the log names it: of an error its class, but not its message, which may have parameters."""
    state: Any = outcome.get("state")
    if state is not None:
        name = str(state.get("name") or state["type"])
        data: Any = state.get("data") or {}
        # The data of COMPLETED is the user's result.
        return name if state["type"] == "COMPLETED" or "error" not in data else f"{name} ({data['error']['type']})"
    if "release" in outcome:
        return "released"
    return "lease ended"
