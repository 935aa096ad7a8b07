"""Supervisors of real child processes, and a record of what they report to the coordinator."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from executing import APP, Peer
from runyard_client.transport.back_off import BackOff
from runyard_client.worker.executors.links import ChildLink
from runyard_client.worker.executors.supervisor import Supervisor


class Coordinator(Peer):
    """Records the events of a supervisor, and what its executors send, as messages."""

    def __init__(self) -> None:
        super().__init__()
        self.ready_hooks: list[Callable[[Any], None]] = []

    def on_ready(self, link: Any, ready: Any) -> None:
        self.send = link.send
        self.receive({"type": "on_ready", "link": link})
        for hook in self.ready_hooks:
            hook(link)

    def on_retiring(self, link: Any) -> None:
        self.receive({"type": "on_retiring", "link": link})

    def on_message(self, link: Any, message: Any) -> None:
        self.receive(message)

    def on_death(self, link: Any, reason: str) -> None:
        self.receive({"type": "on_death", "link": link, "reason": reason})

    def on_gone(self, link: Any) -> None:
        self.receive({"type": "on_gone", "link": link})

    def on_giving_up(self, reason: str) -> None:
        self.receive({"type": "on_giving_up", "reason": reason})

    @property
    def events(self) -> list[str]:
        return [each["type"] for each in self.messages if each["type"].startswith("on_")]


@asynccontextmanager
async def supervised(
    app: str = APP, capacity: int = 4, **options: Any
) -> AsyncIterator[tuple[Supervisor, Coordinator]]:
    """A supervisor with one child, which is replaced without delays."""
    coordinator = Coordinator()
    supervisor = Supervisor(
        lambda: ChildLink(app, capacity=capacity), coordinator, back_off=BackOff(lambda: 0.0), **options
    )
    try:
        await supervisor.start()
        yield supervisor, coordinator
    finally:
        await supervisor.close(0)
