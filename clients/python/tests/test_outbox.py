"""The outbox: calls that are enqueued together at the end of a block."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, faulty_proxy
from runyard_client import PartlyEnqueued, Runyard
from runyard_client.testing.server import RunyardServer


@pytest.fixture
async def proxy(server: RunyardServer) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server.url) as running:
        yield running


@pytest.fixture
async def runyard(proxy: FaultyProxy) -> AsyncIterator[Runyard]:
    app = Runyard(proxy.url)
    yield app
    await app.close()


@pytest.fixture
def echo(runyard: Runyard, unique_key: Callable[[str], str]) -> Any:
    @runyard.task(key=unique_key("echo"))
    async def echo(value: int) -> int:
        return value

    return echo


async def test_calls_are_enqueued_in_one_request_at_the_end_of_the_block(
    proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    async with runyard.outbox() as outbox:
        outbox.add(echo.call(1))
        outbox.add(echo.call(2))
        assert len(outbox) == 2
        assert proxy.requests == []

    (request,) = [request for request in proxy.requests if request.operation == "CreateTaskRuns"]
    assert [each["parameters"] for each in request.variables["inputs"]] == [{"value": 1}, {"value": 2}]
    assert [(await handle.status()).type for handle in outbox.handles] == ["SCHEDULED", "SCHEDULED"]


async def test_nothing_is_enqueued_when_the_block_fails(proxy: FaultyProxy, runyard: Runyard, echo: Any) -> None:
    outbox = runyard.outbox()

    async def fail() -> None:
        async with outbox:
            outbox.add(echo.call(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert outbox.handles == []
    assert proxy.requests == []


async def test_an_empty_block_sends_nothing(proxy: FaultyProxy, runyard: Runyard) -> None:
    async with runyard.outbox():
        pass

    assert proxy.requests == []


async def test_a_refused_call_is_an_error_of_the_block(runyard: Runyard, echo: Any) -> None:
    call = echo.call(1)
    call.input["priority"] = 11

    with pytest.raises(PartlyEnqueued):
        async with runyard.outbox() as outbox:
            outbox.add(call)


def test_a_block_without_an_event_loop_enqueues_too(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    app = Runyard(server.url)

    @app.task(key=unique_key("echo"))
    def echo(value: int) -> int:
        return value

    with app.outbox() as outbox:
        outbox.add(echo.call(1))
    failed = app.outbox()

    def fail() -> None:
        with failed:
            failed.add(echo.call(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [handle.status_sync().type for handle in outbox.handles] == ["SCHEDULED"]
    assert failed.handles == []
    app.close_sync()
