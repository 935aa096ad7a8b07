"""Requests: how responses of servers and proxies become values and errors."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, faulty_proxy
from runyard_client.errors import NotAllowed, QueueFull, Refused, RequestTooLarge, ServerTooOld, ServerUnavailable
from runyard_client.testing.server import RunyardServer
from runyard_client.transport.http import BackOff, TokenSource, Transport

UNKNOWN_ID = "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10"


@pytest.fixture
async def proxy(server: RunyardServer) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server.url) as running:
        yield running


@pytest.fixture
async def transport(proxy: FaultyProxy) -> AsyncIterator[Transport]:
    opened = Transport(proxy.url, TokenSource())
    yield opened
    await opened.close()


def graphql_error(code: str, message: str = "No.", **extensions: Any) -> dict[str, Any]:
    return {
        "errors": [{"message": message, "path": ["taskRun"], "extensions": {"code": code} | extensions}],
        "data": None,
    }


async def get_unknown_run(transport: Transport) -> Any:
    return await transport.execute("GetTaskRun", {"id": UNKNOWN_ID})


async def test_the_value_of_the_root_field_is_returned(transport: Transport) -> None:
    answer = await transport.execute("EndedTaskRuns", {"ids": [UNKNOWN_ID], "waitSeconds": 0})

    assert answer == {"ended": [], "notFound": [UNKNOWN_ID], "hasMore": False}


async def test_the_first_request_reads_the_limits_of_the_server_once(proxy: FaultyProxy, transport: Transport) -> None:
    assert transport.limits is None

    await get_unknown_run(transport)
    await get_unknown_run(transport)

    assert transport.limits is not None
    assert (transport.limits.max_batch, transport.limits.max_body_bytes) == (1000, 4194304)
    assert [request.operation for request in proxy.requests] == ["ServerInfo", "GetTaskRun", "GetTaskRun"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_gateway_that_cannot_reach_the_server_makes_it_unavailable(
    proxy: FaultyProxy, transport: Transport, status: int
) -> None:
    proxy.refuse("GetTaskRun", status, body=b"<html>Bad gateway</html>", headers={"Retry-After": "7"})

    with pytest.raises(ServerUnavailable) as raised:
        await get_unknown_run(transport)

    assert raised.value.retry_after == 7.0
    assert await get_unknown_run(transport) is None


async def test_too_many_requests_without_a_delay_are_repeated_after_five_seconds(
    proxy: FaultyProxy, transport: Transport
) -> None:
    proxy.refuse("GetTaskRun", 429, body=b"")

    with pytest.raises(ServerUnavailable) as raised:
        await get_unknown_run(transport)

    assert raised.value.retry_after == 5.0


async def test_a_lost_response_makes_the_server_unavailable(proxy: FaultyProxy, transport: Transport) -> None:
    await get_unknown_run(transport)
    proxy.lose_responses("GetTaskRun")

    with pytest.raises(ServerUnavailable, match=f"^Cannot reach the server at {proxy.url}: "):
        await get_unknown_run(transport)


async def test_a_response_that_takes_too_long_makes_the_server_unavailable(
    proxy: FaultyProxy, transport: Transport
) -> None:
    with proxy.hold("GetTaskRun"), pytest.raises(ServerUnavailable, match=r"no response within 0\.2 seconds\.$"):
        await transport.execute("GetTaskRun", {"id": UNKNOWN_ID}, timeout=0.2)


async def test_limits_that_take_too_long_do_not_exceed_the_time_limit(proxy: FaultyProxy, transport: Transport) -> None:
    with proxy.hold("ServerInfo"), pytest.raises(ServerUnavailable, match=r"no response within 0\.2 seconds\.$"):
        await transport.execute("GetTaskRun", {"id": UNKNOWN_ID}, timeout=0.2)

    assert await get_unknown_run(transport) is None


async def test_a_server_that_does_not_exist_is_unavailable() -> None:
    transport = Transport("http://127.0.0.1:1", TokenSource())

    with pytest.raises(ServerUnavailable, match=r"^Cannot reach the server at http://127\.0\.0\.1:1/graphql: "):
        await get_unknown_run(transport)
    await transport.close()


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        (graphql_error("UNAVAILABLE", retryable=True), ServerUnavailable),
        (graphql_error("QUEUE_FULL", retryable=True), QueueFull),
        (graphql_error("RESPONSE_TOO_LARGE"), RequestTooLarge),
        (graphql_error("NOT_FOUND", argument="id"), Refused),
        (graphql_error("INTERNAL", id="7"), Refused),
        (graphql_error("FORBIDDEN"), NotAllowed),
        (graphql_error("UNAUTHENTICATED"), NotAllowed),
    ],
)
async def test_an_error_code_decides_the_exception(
    proxy: FaultyProxy, transport: Transport, body: Any, error_class: type[Exception]
) -> None:
    proxy.refuse("GetTaskRun", 200, body=body)

    with pytest.raises(error_class) as raised:
        await get_unknown_run(transport)

    assert str(raised.value) == "No."
    if isinstance(raised.value, Refused | NotAllowed):
        assert raised.value.code == body["errors"][0]["extensions"]["code"]


async def test_an_invalid_argument_is_refused_with_its_path(transport: Transport) -> None:
    with pytest.raises(Refused) as raised:
        await transport.execute("EndedTaskRuns", {"ids": ["abc"]})

    assert (raised.value.code, raised.value.argument) == ("BAD_USER_INPUT", "ids.0")


async def test_a_value_of_the_wrong_type_is_refused(transport: Transport) -> None:
    with pytest.raises(Refused, match=r"^Variable '\$ids'") as raised:
        await transport.execute("EndedTaskRuns", {"ids": 3.5})

    assert raised.value.code == "BAD_USER_INPUT"


async def test_a_request_above_the_servers_limit_is_not_sent(proxy: FaultyProxy, transport: Transport) -> None:
    await get_unknown_run(transport)

    with pytest.raises(RequestTooLarge, match=r"^A request must not exceed 4,194,304 bytes .*; got 5,0"):
        await transport.execute("CreateTaskRuns", {"inputs": [{"taskKey": "a", "parameters": "x" * 5_000_000}]})

    assert proxy.count("CreateTaskRuns") == 0


async def test_a_document_that_the_server_refuses_needs_a_newer_server(
    proxy: FaultyProxy, transport: Transport
) -> None:
    message = "Cannot query field 'endedTaskRuns' on type 'Query'."
    body = {"errors": [{"message": message, "locations": [], "extensions": {"code": "BAD_USER_INPUT"}}]}
    proxy.refuse("EndedTaskRuns", 400, body=body)

    with pytest.raises(ServerTooOld) as raised:
        await transport.execute("EndedTaskRuns", {"ids": []})

    assert transport.limits is not None
    assert (raised.value.needs, raised.value.found) == (message, transport.limits.version)


async def test_an_unknown_field_of_an_input_needs_a_newer_server(transport: Transport) -> None:
    with pytest.raises(ServerTooOld, match="unknown field 'newField'"):
        await transport.execute("CreateTaskRuns", {"inputs": [{"taskKey": "a", "newField": 1}]})


async def test_a_server_without_limits_is_too_old_and_names_its_version(
    proxy: FaultyProxy, transport: Transport
) -> None:
    message = "Cannot query field 'limits' on type 'ServerInfo'."
    body = {"errors": [{"message": message, "locations": [], "extensions": {"code": "BAD_USER_INPUT"}}]}
    proxy.refuse("ServerInfo", 400, body=body)

    with pytest.raises(ServerTooOld) as raised:
        await get_unknown_run(transport)

    assert raised.value.needs == message
    assert raised.value.found[0].isdigit()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b"<html>Not found</html>", "responds with the HTTP status 404. Set the URL"),
        (200, b"[1]", "responds with the HTTP status 200. Set the URL"),
    ],
)
async def test_another_server_than_runyard_is_named(
    proxy: FaultyProxy, transport: Transport, status: int, body: bytes, message: str
) -> None:
    proxy.refuse("ServerInfo", status, body=body)

    with pytest.raises(Refused, match=message):
        await get_unknown_run(transport)


async def test_a_redirect_is_not_followed(proxy: FaultyProxy, transport: Transport) -> None:
    proxy.refuse("ServerInfo", 302, body=b"", headers={"Location": "http://other.example/graphql"})

    with pytest.raises(Refused, match=r"redirects to http://other\.example/graphql\."):
        await get_unknown_run(transport)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200/graphql"),
        ("http://127.0.0.1:4200/", "http://127.0.0.1:4200/graphql"),
        ("https://example.org/runyard/graphql", "https://example.org/runyard/graphql"),
    ],
)
def test_a_url_without_a_path_is_that_of_the_endpoint(url: str, endpoint: str) -> None:
    assert Transport(url, TokenSource()).url == endpoint


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "ftp://example.org", "http://", "http://user:secret@example.org"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^The URL of the server must") as raised:
        Transport(url, TokenSource())

    assert "secret" not in str(raised.value)


def test_a_delay_is_random_up_to_a_limit_that_doubles() -> None:
    back_off = BackOff(chance=lambda: 1.0)

    delays = [back_off.next_delay() for _ in range(10)]

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0])
    back_off.reset()
    assert back_off.next_delay() == pytest.approx(0.1)
    assert BackOff(chance=lambda: 0.5).next_delay() == pytest.approx(0.05)
