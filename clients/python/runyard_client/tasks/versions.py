"""Default version of a task."""

from __future__ import annotations

from functools import cache


def distribution_version(module: str) -> str | None:
    """Return the version of the distribution that is named as the top-level package of `module`, or None."""
    return _version(module.partition(".")[0])


@cache
def _version(name: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 - takes longer to import than the rest of the client

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
