"""The parent's end of a spawned process: its pipes, its signals and its exit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runyard_client.worker.executors.pipes import PipeReader, PipeWriter
from runyard_client.worker.messages import Pool


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """Settings of executors. All durations are in seconds."""

    log_format: str = "auto"
    """Format of the log lines of children: `auto`, `console` or `json`."""
    uvloop: bool = False
    cancel_repeat_seconds: float = 5.0
    """A task of the pool `loop` that ignores its cancellation is cancelled again after this time."""
    kill_after_seconds: float = 5.0
    """Grace of tasks without `grace`: from the cancellation to SIGTERM, and from SIGTERM to SIGKILL."""
    report_folders: bool = False
    """Whether `ready` has the `folders` of the imported modules, for `--reload`."""


class ChildProcess:
    """A child that runs `runyard_client.worker.executors.child`, with a pipe in each direction.

    It is spawned and inherits no locks, threads or connections, in a process group of its own: Ctrl-C in the
    terminal reaches the parent only. All methods and callbacks run on `loop`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Any], None], on_exit: Callable[[int], None]
    ) -> None:
        """`on_exit` is called once, after the last message, with the return code as of `subprocess.Popen.returncode`."""
        self._loop, self._on_message, self._on_exit = loop, on_message, on_exit
        self.exited = asyncio.Event()

    def spawn(self, app: str, arguments: list[str]) -> None:
        """Start the process for `MODULE:APP`."""
        if sys.platform == "win32":
            raise NotImplementedError("Child processes are not supported on Windows; use --processes 0.")
        child_reads, parent_writes = os.pipe()
        parent_reads, child_writes = os.pipe()
        try:
            self._process = spawn_child(app, arguments, child_reads, child_writes)
        except OSError:
            os.close(parent_writes)
            os.close(parent_reads)
            raise
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._writer = PipeWriter(self._loop, parent_writes)
        self._reader = PipeReader(self._loop, parent_reads, self._on_message, lambda: None)
        self.send({"type": "init", "path": import_path()})
        threading.Thread(target=self._wait, name=f"runyard-wait-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message without waiting. Messages to a process that has ended are dropped."""
        self._writer.send(message)

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if not self.exited.is_set():
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and to the processes that it has started in its group."""
        if not self.exited.is_set() and self._process.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # it ended just now
            except PermissionError:  # macOS: a process of the group is a zombie
                self._process.kill()

    def _wait(self) -> None:
        code = self._process.wait()
        try:
            self._loop.call_soon_threadsafe(self._end, code)
        except RuntimeError:
            return  # the loop is closed: no caller waits for this process

    def _end(self, code: int) -> None:
        while self._reader.read():
            pass  # what it sent before its end
        self._reader.close()
        self._writer.close()
        self.exited.set()
        self._on_exit(code)


def spawn_child(app: str, arguments: list[str], read_fd: int, write_fd: int) -> subprocess.Popen[bytes]:
    """Start the process of a child. Its stdout and stderr are those of this process."""
    command = [sys.executable, "-m", "runyard_client.worker.executors.child", app, *arguments]
    command += ["--receive-fd", str(read_fd), "--send-fd", str(write_fd), "--parent-pid", str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 - the arguments are those of the worker's own command line
        command, stdin=subprocess.DEVNULL, pass_fds=(read_fd, write_fd), process_group=0
    )


def child_arguments(settings: ChildSettings, pool: Pool, concurrency: int) -> list[str]:
    """Return the options of a child's command line."""
    arguments = ["--pool", pool, "--concurrency", str(concurrency), "--log-format", settings.log_format]
    arguments += ["--cancel-repeat-seconds", str(settings.cancel_repeat_seconds)]
    arguments += ["--kill-after-seconds", str(settings.kill_after_seconds)]
    return arguments + ["--uvloop"] * settings.uvloop + ["--report-folders"] * settings.report_folders


def import_path() -> list[str]:
    """Return this process's `sys.path` with the current directory in front, as `python -m` has it."""
    here = os.getcwd()
    return [here, *(entry for entry in sys.path if entry not in {"", here})]


def describe_exit(code: int) -> str:
    """Describe a return code: `signal 9` or `exit code 3`."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
