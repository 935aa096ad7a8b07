"""Results and errors of runs, as the data of their last state.

A result is `{"result": …}`, `{"discarded": true}` or, in a result store, `{"stored": {…}}`. The envelope is never empty,
since the server may start a COMPLETED run without data again.
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, cast, runtime_checkable

import orjson

from runyard_client.context import current_run
from runyard_client.errors import NoResult, ResultTooLarge, RunyardError
from runyard_client.results.failures import describe_error, raise_task_failed

__all__ = ["ResultStore", "describe_error", "is_stored", "raise_task_failed", "read_envelope", "write_envelope"]

STORE_ABOVE_BYTES = 256 * 1024
"""Results of more bytes of JSON go to the result store, if there is one."""
MAX_RESULT_BYTES = 3_500_000
"""Largest result without a store, unless the limit of the server is known. The default request limit is 4 MiB."""


@runtime_checkable
class ResultStore(Protocol):
    """Keeps large results outside of the server. Its methods may be called by several threads and may block."""

    name: str
    """Name of the store, which is kept with each result."""

    def put(self, run_id: str, data: bytes) -> str:
        """Store the result of a run and return a reference. A run may have several results, one for each delivery."""
        ...

    def get(self, reference: str) -> bytes:
        """Return what is stored. Raises LookupError if it does not exist."""
        ...

    def delete(self, reference: str) -> None:
        """Delete what is stored. Has no effect if it does not exist."""
        ...


def write_envelope(
    value: Any, store: ResultStore | None, run_id: str | None = None, *, max_bytes: int = MAX_RESULT_BYTES
) -> dict[str, Any]:
    """Return the state data for a result that is plain JSON. Blocks while the store writes.

    `run_id` defaults to the current run.

    Raises:
        ResultTooLarge: there is no store, and the result exceeds `max_bytes`.
    """
    data = orjson.dumps(value)
    if store is not None and len(data) > STORE_ABOVE_BYTES:
        return {"stored": _store(store, run_id or current_run().id, data)}
    if len(data) > max_bytes:
        raise ResultTooLarge(len(data), max_bytes)
    return {"result": value}


def _store(store: ResultStore, run_id: str, data: bytes) -> dict[str, Any]:
    return {
        "by": store.name,
        "at": store.put(run_id, data),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def read_envelope(data: Any, store: ResultStore | None) -> Any:
    """Return the plain JSON of a result from the data of a COMPLETED state. Blocks while the store reads.

    Raises:
        NoResult: the data has no result, or it is in a store that is not configured here or does not have it any more.
        RunyardError: the store returned other bytes than were stored.
    """
    if isinstance(data, dict):
        envelope = cast("dict[str, Any]", data)
        if "result" in envelope:
            return envelope["result"]
        if "stored" in envelope:
            return _load(envelope["stored"], store)
        if envelope.get("discarded"):
            raise NoResult("The task discards its results.")
    raise NoResult("The run is COMPLETED without a result of this client.")


def is_stored(data: Any) -> bool:
    """Return whether reading the result of this state data reads a result store, which blocks."""
    return isinstance(data, dict) and "stored" in data


def _load(stored: dict[str, Any], store: ResultStore | None) -> Any:
    if store is None or store.name != stored["by"]:
        raise NoResult(f"The result is in the result store {stored['by']!r}, which is not configured here.")
    try:
        data = store.get(stored["at"])
    except LookupError as error:
        raise NoResult(f"The result store {store.name!r} has no {stored['at']!r}.") from error
    if hashlib.sha256(data).hexdigest() != stored["sha256"]:
        raise RunyardError(f"The result store {store.name!r} has other bytes for {stored['at']!r} than were stored.")
    return orjson.loads(data)
