"""Limits what is read from PostgreSQL: closes the connection when received bytes exceed the read budget.

asyncpg returns the rows of a statement when all of them have arrived, and a thousand runs can have gigabytes. A byte
counter between the transport and asyncpg receives the bytes in parts; only closing the connection stops the others.
"""

import asyncio
from typing import Any

from db.errors import DatabaseUnavailable
from db.runtime.memory_budget import ReadBudget

Raw = Any
"""A connection of asyncpg, which has no type annotations."""


class _ByteCounter(asyncio.Protocol):
    def __init__(self, protocol: Any, transport: asyncio.Transport) -> None:
        self.read_budget: ReadBudget | None = None
        self._transport = transport
        self._data_received = protocol.data_received
        self.connection_lost = protocol.connection_lost
        self.eof_received = protocol.eof_received
        self.pause_writing = protocol.pause_writing
        self.resume_writing = protocol.resume_writing

    def data_received(self, data: bytes) -> None:
        if self.read_budget is not None and not self.read_budget.consume(len(data)):
            self._transport.abort()
            return
        self._data_received(data)


def install_byte_counter(raw: Raw) -> None:
    """Install a byte counter in a new connection."""
    transport = raw._transport
    transport.set_protocol(_ByteCounter(transport.get_protocol(), transport))


def start_counting(raw: Raw, read_budget: ReadBudget) -> None:
    """Count received bytes against this budget until `stop_counting`.

    Raises DatabaseUnavailable when the connection has ended.
    """
    if (byte_counter := _byte_counter_of(raw)) is None:
        # TLS has ended the connection, which asyncpg has not noticed yet.
        raise DatabaseUnavailable("The connection to the database has ended.")
    byte_counter.read_budget = read_budget


def stop_counting(raw: Raw) -> None:
    """Stop counting. The connection may have ended."""
    if (byte_counter := _byte_counter_of(raw)) is not None:
        byte_counter.read_budget = None


def _byte_counter_of(raw: Raw) -> _ByteCounter | None:
    # A pool hands out proxies, which are empty after the release.
    transport = getattr(getattr(raw, "_con", raw), "_transport", None)
    protocol = transport and transport.get_protocol()
    return protocol if isinstance(protocol, _ByteCounter) else None
