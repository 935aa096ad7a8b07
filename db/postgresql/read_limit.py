"""Counts what PostgreSQL sends, and hangs up where that is more than may be read.

asyncpg gives a statement's rows when all of them are there, and a thousand runs can have gigabytes. A meter stands between
asyncpg and the transport that it reads from, where the bytes come in parts; nothing but ending the connection stops those
that are under way.
"""

import asyncio
from typing import Any

from db.errors import DatabaseUnavailable
from db.runtime.memory_budget import Allowance

Raw = Any
"""A connection of asyncpg, which has no types of its own."""


class _Meter(asyncio.Protocol):
    def __init__(self, protocol: Any, transport: asyncio.Transport) -> None:
        self.allowance: Allowance | None = None
        self._transport = transport
        self._pass_on = protocol.data_received
        self.connection_lost = protocol.connection_lost
        self.eof_received = protocol.eof_received
        self.pause_writing = protocol.pause_writing
        self.resume_writing = protocol.resume_writing

    def data_received(self, data: bytes) -> None:
        if self.allowance is not None and not self.allowance.take(len(data)):
            self._transport.abort()
            return
        self._pass_on(data)


def install(raw: Raw) -> None:
    """Put a meter into a new connection."""
    transport = raw._transport
    transport.set_protocol(_Meter(transport.get_protocol(), transport))


def charge(raw: Raw, allowance: Allowance) -> None:
    """Count what comes from now on against this allowance, until `leave`."""
    if (meter := _meter_of(raw)) is None:
        # TLS has ended, and asyncpg is about to be told.
        raise DatabaseUnavailable("The connection to the database has ended.")
    meter.allowance = allowance


def leave(raw: Raw) -> None:
    """Count nothing any more; the connection may have ended."""
    if (meter := _meter_of(raw)) is not None:
        meter.allowance = None


def _meter_of(raw: Raw) -> _Meter | None:
    # A pool lends its connections in wrappings, and takes what is in them away in the end.
    transport = getattr(getattr(raw, "_con", raw), "_transport", None)
    protocol = transport and transport.get_protocol()
    return protocol if isinstance(protocol, _Meter) else None
