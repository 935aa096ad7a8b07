"""Follows the feed of state changes across disconnections and restarts of the server."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from runyard.terminal.client import KEEP_ALIVE, Client, ConnectionFailed, RequestFailed

MAX_WAIT_SECONDS = 4.0
"""Longest time between two attempts to connect."""


def follow_state_changes(
    client: Client, filter: dict[str, Any], after: str, report: Callable[[str], None]
) -> Iterator[dict[str, Any] | None]:
    """Yield each state change after the cursor, and None from time to time while there are none.

    Connects again without a limit when the connection is lost, and misses no change then. `report` gets a message when
    the connection is lost and when it is restored.
    """
    attempts = 0
    while True:
        try:
            for change in client.subscribe("TaskRunStateChanges", filter=filter, after=after):
                if attempts:
                    report("Connected again.")
                    attempts = 0
                if change is not KEEP_ALIVE:
                    after = change["cursor"]
                yield change
            raise RequestFailed("The server has ended the subscription.")
        except ConnectionFailed as error:
            if not attempts:
                report(f"{error} Connecting again ...")
            attempts += 1
            time.sleep(min(0.25 * 2**attempts, MAX_WAIT_SECONDS) * random.uniform(0.5, 1.0))  # noqa: S311
