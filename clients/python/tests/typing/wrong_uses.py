"""Wrong uses of tasks. Both type checkers must report an error on each line that is marked `# wrong`, and on no other."""

from __future__ import annotations

from runyard_client import AsyncTask, Handle, Run, Runyard, SyncTask, Task, task

runyard = Runyard()


@runyard.task
async def send_mail(to: str, subject: str = "Hello") -> int:
    return len(to + subject)


@runyard.task(pool="process")
def render(pages: list[str], *, dpi: int = 72) -> bytes:
    return str((pages, dpi)).encode()


@task
def resize(run: Run, width: int) -> None:
    run.progress(1, width)


async def wrong_arguments() -> None:
    await send_mail.enqueue()  # wrong
    await send_mail.enqueue(3)  # wrong
    await send_mail.enqueue("a", "b", "c")  # wrong
    await send_mail.enqueue("a", subjekt="b")  # wrong
    await send_mail.enqueue("a", delay=60)  # wrong
    send_mail.call(to=b"a")  # wrong
    render.enqueue_sync(["a"], 300)  # wrong
    render.enqueue_sync("a")  # wrong
    render.with_(delay=3).enqueue_sync([1])  # wrong
    resize.enqueue_sync(width="3")  # wrong
    resize.enqueue_sync(Run("id"), 3)  # wrong
    await send_mail(3)  # wrong
    render(["a"], dpi="300")  # wrong


async def wrong_results() -> None:
    one: Handle[str] = await send_mail.enqueue("a")  # wrong
    two: int = send_mail("a")  # wrong
    three: str = render(["a"])  # wrong
    four: AsyncTask[[list[str]], bytes] = render  # wrong
    five: SyncTask[[str, str], int] = send_mail  # wrong
    six: Task[[int], int] = send_mail  # wrong
    print(one, two, three, four, five, six)


def wrong_options() -> None:
    send_mail.with_(delai=3)  # wrong
    send_mail.with_(priority="high")  # wrong
    runyard.task(pool="cpu")  # wrong
    runyard.task(retries="3")  # wrong
    runyard.task(unknown=1)  # wrong
    runyard.task(raises=[ValueError])  # wrong
