"""Messages as JSON lines through non-blocking pipes, on an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

READ_BYTES = 262_144

logger = logging.getLogger("runyard_client.worker")


class LineBuffer:
    """Joins chunks of bytes into lines, in linear time for lines of any length."""

    def __init__(self) -> None:
        self._tail: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Add a chunk and return the lines that are now complete, without their ends."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail = []
        if rest:
            self._tail.append(rest)
        return lines


class PipeReader:
    """Calls `on_message` for each message that arrives, and `on_end` once when the pipe is closed at its other end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, on_message: Callable[[Any], None], on_end: Callable[[], None]
    ) -> None:
        self._loop, self._fd, self._on_message, self._on_end = loop, fd, on_message, on_end
        self._lines = LineBuffer()
        self._is_open = True
        os.set_blocking(fd, False)
        loop.add_reader(fd, self.read)

    def read(self) -> bool:
        """Handle what has arrived, up to `READ_BYTES`. Return whether there may be more."""
        if not self._is_open:
            return False
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self.close()
            self._on_end()
            return False
        for line in self._lines.feed(chunk):
            self._handle(line)
        return True

    def close(self) -> None:
        """Stop reading and close the pipe."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _handle(self, line: bytes) -> None:
        try:
            self._on_message(orjson.loads(line))
        except Exception:  # one message must not prevent the handling of the others
            logger.exception("A message between the worker's processes could not be handled")


class PipeWriter:
    """Sends messages without blocking. Messages that are sent in one iteration of the loop are written together.

    Must be used on the thread of the loop. What is sent after the other end was closed is dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop, self._fd = loop, fd
        self._lines: list[bytes] = []
        self._unsent: deque[memoryview] = deque()
        self._is_scheduled = False
        self._is_open = True
        os.set_blocking(fd, False)

    def send(self, message: Any) -> None:
        """Send a message soon."""
        if not self._is_open:
            return
        self._lines.append(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if not self._is_open:
            return
        self._unsent.append(memoryview(b"".join(self._lines)))
        self._lines.clear()
        self._is_scheduled = False
        if len(self._unsent) == 1:
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                written = os.write(self._fd, self._unsent[0])
                if written == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][written:]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
        except OSError:  # the other end is closed
            self.close()
        else:
            self._loop.remove_writer(self._fd)

    def flush_blocking(self) -> None:
        """Write everything that was sent, waiting for the other end. For the end of a process, outside of the loop."""
        if not self._is_open:
            return
        os.set_blocking(self._fd, True)
        self._flush()
        self._write()

    def close(self) -> None:
        """Close the pipe. What was not written yet is lost."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._unsent.clear()
