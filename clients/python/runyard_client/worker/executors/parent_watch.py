"""Ends a child process whose parent has died, even if its event loop is blocked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

CHECK_SECONDS = 1.0
GRACE_SECONDS = 3.0


def watch_parent(parent_pid: int, on_death: Callable[[], None]) -> None:
    """Watch the parent on a daemon thread. After its death, call `on_death` on this thread; exit 3 seconds later.

    The closed pipe reports the death to the event loop earlier, unless the loop is blocked or another process has
    inherited the pipe.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(CHECK_SECONDS)
        on_death()
        exit_later()

    threading.Thread(target=watch, name="runyard-parent-watch", daemon=True).start()


def exit_later() -> None:
    """Exit after the grace, however busy the other threads are. `atexit` functions do not run."""
    time.sleep(GRACE_SECONDS)
    os._exit(1)
