"""The log of a server process, read until the server accepts connections and then to its end."""

import re
import threading
from typing import IO

READY = re.compile(r"running on (http://[^\s\"]+)")


class ServerLog:
    """Reads the log of a server process on a thread. A pipe that is not read would block the server."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lines: list[str] = []
        self._ready_or_ended = threading.Event()
        self._url: str | None = None
        self._thread = threading.Thread(target=self._read, name="runyard-server-log", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """What the server has logged until now."""
        return "".join(self._lines)

    def wait_for_url(self, seconds: float) -> str | None:
        """Return the URL of the server when it accepts connections; None if it exits first or the time is up."""
        self._ready_or_ended.wait(seconds)
        return self._url

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the server's process has closed its log."""
        self._thread.join(seconds)

    def _read(self) -> None:
        with self._pipe as pipe:
            for line in pipe:
                self._lines.append(line.decode(errors="replace"))
                found = READY.search(self._lines[-1])
                if found and self._url is None:
                    self._url = found[1]
                    self._ready_or_ended.set()
        self._ready_or_ended.set()
