"""Signals of the operating system that stop a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

EXIT_INTERRUPTED = 1


def handle_signals(request_stop: Callable[[], None]) -> None:
    """Call `request_stop` at SIGINT and SIGTERM; exit at the third one even if the loop is stuck."""
    loop = asyncio.get_running_loop()
    received = 0

    def handle() -> None:
        nonlocal received
        received += 1
        if received > 2:
            os._exit(EXIT_INTERRUPTED)
        request_stop()

    def handle_anywhere(*_: object) -> None:
        loop.call_soon_threadsafe(handle)

    for number in (signal.SIGINT, signal.SIGTERM):
        if sys.platform == "win32":
            signal.signal(number, handle_anywhere)
        else:
            loop.add_signal_handler(number, handle)
