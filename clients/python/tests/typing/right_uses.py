"""Uses of tasks that both type checkers accept. Never executed: `test_typing.py` checks the file."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from runyard_client import AsyncTask, Call, Handle, Run, Runyard, SyncTask, Task, exponential, task

runyard = Runyard()


class Document:
    """A base class."""


@dataclass
class Receipt(Document):
    """A subclass."""

    number: int


@runyard.task
async def send_mail(to: str, subject: str = "Hello") -> Receipt:
    return Receipt(len(to + subject))


@runyard.task(
    key="render",
    pool="process",
    retries=5,
    retry_delays=exponential(2, max_delay=600),
    jitter=0.3,
    timeout=timedelta(minutes=5),
    raises=(ValueError, KeyError),
    retry_on=OSError,
    cache_key=lambda arguments: f"render:{arguments['pages']}",
    cache_for=60,
)
def render(pages: list[str], *, dpi: int = 72) -> bytes:
    return str((pages, dpi)).encode()


@task
def resize(run: Run, width: int) -> None:
    run.progress(1, width)


@task(group="images")
async def crop(run: Run, width: int) -> list[int]:
    return [run.run_count, width]


@runyard.task
def without_parameters() -> int:
    return 1


@runyard.task
async def of_an_object(payload: object, number: int) -> int:
    return number if payload else 0


@runyard.task
async def with_many(*numbers: int, **names: str) -> int:
    return len(numbers) + len(names)


@runyard.task
async def delayed(delay: float, key: str) -> float:
    return delay + len(key)


async def calls() -> None:
    coroutine: Coroutine[Any, Any, Receipt] = send_mail("a")
    assert_type(await coroutine, Receipt)
    assert_type(await send_mail("a", subject="b"), Receipt)
    assert_type(render(["a"], dpi=300), bytes)
    assert_type(resize(3), None)
    assert_type(await crop(width=3), list[int])


async def enqueues() -> None:
    assert_type(await send_mail.enqueue("a"), Handle[Receipt])
    assert_type(await send_mail.enqueue(to="a", subject="b"), Handle[Receipt])
    assert_type(render.enqueue_sync(["a"]), Handle[bytes])
    assert_type(await resize.enqueue(3), Handle[None])
    assert_type(await crop.enqueue(width=3), Handle[list[int]])
    assert_type(without_parameters.enqueue_sync(), Handle[int])
    assert_type(await of_an_object.enqueue({}, 3), Handle[int])
    assert_type(await with_many.enqueue(1, 2, a="b"), Handle[int])
    assert_type(await delayed.enqueue(delay=1.5, key="k"), Handle[float])
    assert_type(send_mail.call("a"), Call[Receipt])
    assert_type(await (await send_mail.enqueue("a")).result(timeout=30), Receipt)


async def options() -> None:
    later = send_mail.with_(delay=60, key="welcome:17", tags=["mail"], retries=2, metadata={"by": "test"})
    assert_type(await later.enqueue("a"), Handle[Receipt])
    assert_type(await later.with_(priority=3, unique="u").enqueue("a"), Handle[Receipt])
    assert_type(render.with_(at=datetime.now(UTC), expires=timedelta(hours=1)).enqueue_sync(["a"]), Handle[bytes])
    assert_type(resize.with_(timeout=None, parent=False)(3), None)


def takes_documents(made: Task[[str], Document], other: AsyncTask[[str, str], object]) -> None:
    """Tasks are covariant in their result."""


def covariance(mail: AsyncTask[[str], Receipt], pair: AsyncTask[[str, str], Receipt], handle: Handle[Receipt]) -> None:
    takes_documents(mail, pair)
    wider: Handle[Document] = handle
    call: Call[Document] = mail.call("a")
    anything: Mapping[str, Task[..., Any]] = {"mail": mail, "render": render}
    kinds: tuple[AsyncTask[..., Any], SyncTask[..., Any]] = (send_mail, render)
    print(wider, call, anything, kinds)
