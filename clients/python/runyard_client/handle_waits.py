"""Waits for the ends of the runs of several handles."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from runyard_client.connection.watching import iterate_ends, wait_for_ends, wait_for_ends_sync
from runyard_client.handle import Handle

if TYPE_CHECKING:
    from runyard_client.connection.app_connection import Connection
    from runyard_client.connection.waiting import End

R_co = TypeVar("R_co", covariant=True)


async def wait_for_handles(
    connection: Callable[[], Connection],
    handles: Sequence[Handle[R_co]],
    timeout: float | None,  # noqa: ASYNC109
) -> tuple[list[Handle[R_co]], list[Handle[R_co]]]:
    """Wait until all runs have ended, or for `timeout` seconds. Return the handles of ended runs, and the others."""
    if ids := _unknown_ids(handles):
        _remember(handles, await wait_for_ends(connection(), ids, timeout))
    return _partition(handles)


def wait_for_handles_sync(
    connection: Callable[[], Connection], handles: Sequence[Handle[R_co]], timeout: float | None
) -> tuple[list[Handle[R_co]], list[Handle[R_co]]]:
    """Wait as `wait_for_handles` does. Blocks."""
    if ids := _unknown_ids(handles):
        _remember(handles, wait_for_ends_sync(connection(), ids, timeout))
    return _partition(handles)


async def iterate_ended_handles(
    connection: Callable[[], Connection], handles: Sequence[Handle[R_co]]
) -> AsyncGenerator[Handle[R_co]]:
    """Yield each handle as soon as its run has ended or is deleted."""
    waiting = _unknown_ids(handles)
    for handle in handles:
        if handle.is_known_to_have_ended:
            yield handle
    async with aclosing(iterate_ends(connection(), waiting)) as ends:
        async for end in ends:
            for handle in [handle for handle in waiting[end.id] if not handle.is_known_to_have_ended]:
                handle.remember(end)
                yield handle


def _unknown_ids(handles: Sequence[Handle[R_co]]) -> dict[str, list[Handle[R_co]]]:
    """Return the handles whose end is not known, by the ids of their runs."""
    found: dict[str, list[Handle[R_co]]] = {}
    for handle in handles:
        if not handle.is_known_to_have_ended:
            found.setdefault(handle.id, []).append(handle)
    return found


def _remember(handles: Sequence[Handle[Any]], ends: Mapping[str, End]) -> None:
    """Keep the ends in the handles, and then raise the first error, except of runs that do not exist."""
    errors: list[Exception] = []
    for handle in handles:
        if handle.id in ends:
            try:
                handle.remember(ends[handle.id])
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
    if errors:
        raise errors[0]


def _partition(handles: Sequence[Handle[R_co]]) -> tuple[list[Handle[R_co]], list[Handle[R_co]]]:
    ended = [handle for handle in handles if handle.is_known_to_have_ended]
    return ended, [handle for handle in handles if not handle.is_known_to_have_ended]
