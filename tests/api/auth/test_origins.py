"""Browser protection: cross-origin requests and requests for unknown host names are refused."""

import logging
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from runyard.http.host_check import host_name
from runyard.settings import Settings
from tests.client import Client, Socket
from tests.serving import SQLITE_ONLY, RunningServer, run_server, settings_for

pytestmark = SQLITE_ONLY

OTHER_ORIGIN = "https://elsewhere.example"
ALLOWED_ORIGIN = "https://runs.example.org"
QUERY = {"query": "{ __typename }"}
RESULT = {"data": {"__typename": "Query"}}


async def get(client: Client, **headers: str) -> httpx.Response:
    return await client.http.get("/graphql", params=QUERY, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def open_socket(client: Client, **headers: str) -> None:
    """Open a socket and check that it is acknowledged. Raise InvalidStatus when the upgrade is refused."""
    address = client.url.replace("http", "ws", 1) + "/graphql"
    protocols = ["graphql-transport-ws"]
    async with connect(
        address,
        subprotocols=protocols,  # type: ignore[arg-type]
        proxy=None,
        additional_headers=headers,
    ) as connection:
        socket = Socket(connection)
        await socket.send({"type": "connection_init"})
        assert await socket.receive() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OTHER_ORIGIN},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Accept": "text/event-stream"},
    ],
)
async def test_a_cross_origin_get_is_forbidden(client: Client, headers: dict[str, str]) -> None:
    response = await get(client, **headers)

    assert response.status_code == 403
    (error,) = response.json()["errors"]
    assert (error["message"], error["extensions"]) == (
        "Cross-origin GET requests are rejected unless RUNYARD_ALLOWED_ORIGINS lists the origin.",
        {"code": "FORBIDDEN"},
    )


async def test_same_origin_pages_and_programs_may_send_get_queries(client: Client) -> None:
    results = [
        await get(client),
        await get(client, Origin=client.url),
        await get(client, Sec_Fetch_Site="same-origin"),
        await get(client, Sec_Fetch_Site="none"),
    ]

    assert [result.json() for result in results] == [RESULT] * 4


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_content_types_that_need_no_cors_preflight_are_refused(client: Client, content_type: str) -> None:
    create = b'{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'

    response = await client.http.post(
        "/graphql", content=create, headers={"Content-Type": content_type, "Origin": OTHER_ORIGIN}
    )

    assert response.status_code == 415
    assert await client.execute("CountTaskRuns") == 0


async def test_no_cors_headers_are_sent_by_default(client: Client) -> None:
    preflight_headers = {"Origin": OTHER_ORIGIN, "Access-Control-Request-Method": "POST"}

    preflight = await client.http.options("/graphql", headers=preflight_headers)
    posted = await client.http.post("/graphql", json=QUERY, headers={"Origin": OTHER_ORIGIN})

    assert preflight.status_code == 405
    for response in (preflight, posted):
        assert [name for name in response.headers if name.startswith("access-control")] == []


async def test_a_cross_origin_socket_is_refused(client: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(client, Origin=OTHER_ORIGIN)

    response = refused.value.response
    assert (response.status_code, response.headers["x-content-type-options"]) == (403, "nosniff")
    assert response.body == (
        b"The origin 'https://elsewhere.example' is not allowed. Allowed origins are listed in RUNYARD_ALLOWED_ORIGINS.\n"
    )
    await open_socket(client, Origin=client.url)


async def test_a_refused_socket_logs_no_error(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for headers in ({"Origin": OTHER_ORIGIN}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus):
            await open_socket(client, **headers)

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_allowed_origin_may_use_get_post_and_sockets(tmp_path: Path) -> None:
    async with run_server(tmp_path, allowed_origins=(ALLOWED_ORIGIN,)) as server:
        client = server.client
        preflight_headers = {
            "Origin": ALLOWED_ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = await client.http.options("/graphql", headers=preflight_headers)
        posted = await client.http.post("/graphql", json=QUERY, headers={"Origin": ALLOWED_ORIGIN})
        got = await get(client, Origin=ALLOWED_ORIGIN, Sec_Fetch_Site="cross-site")
        await open_socket(client, Origin=ALLOWED_ORIGIN)

        assert (preflight.status_code, posted.json(), got.json()) == (200, RESULT, RESULT)
        for response in (preflight, posted, got):
            assert response.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
            assert "access-control-allow-credentials" not in response.headers
        assert (await get(client, Origin=OTHER_ORIGIN)).status_code == 403
        refused = await client.http.options("/graphql", headers=preflight_headers | {"Origin": OTHER_ORIGIN})
        assert "access-control-allow-origin" not in refused.headers
        with pytest.raises(InvalidStatus):
            await open_socket(client, Origin=OTHER_ORIGIN)


async def preflight(client: Client, **headers: str) -> httpx.Response:
    """Send the preflight request of a POST by a page of the allowed origin."""
    given = {"Origin": ALLOWED_ORIGIN, "Access-Control-Request-Method": "POST"}
    given |= {f"Access-Control-Request-{name}": value for name, value in headers.items()}
    return await client.http.options("/graphql", headers=given)


async def test_pages_may_send_the_headers_of_traces_and_those_of_the_setting(tmp_path: Path) -> None:
    names = "authorization, content-type, x-request-id, traceparent, tracestate, baggage"
    async with run_server(tmp_path, allowed_origins=(ALLOWED_ORIGIN,), allowed_headers=("Sentry-Trace",)) as server:
        response = await preflight(server.client, Headers=f"{names}, sentry-trace")

    assert (response.status_code, response.text) == (200, "OK")
    allowed = {name.strip().lower() for name in response.headers["access-control-allow-headers"].split(",")}
    assert {*names.split(", "), "sentry-trace"} <= allowed


async def test_every_header_may_be_allowed(tmp_path: Path) -> None:
    async with run_server(tmp_path, allowed_origins=(ALLOWED_ORIGIN,), allowed_headers=("*",)) as server:
        response = await preflight(server.client, Headers="x-any")

    assert (response.status_code, response.headers["access-control-allow-headers"]) == (200, "x-any")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"Headers": "content-type, sentry-trace,X-Other"},
            "Headers that are not allowed: 'sentry-trace', 'X-Other'. Allow them with RUNYARD_ALLOWED_HEADERS.\n",
        ),
        ({"Method": "PUT"}, "The method 'PUT' is not allowed for cross-origin requests. Use GET or POST.\n"),
        ({"Private-Network": "true"}, "Disallowed CORS private-network"),
    ],
)
async def test_a_refused_preflight_names_what_is_not_allowed(
    tmp_path: Path, headers: dict[str, str], message: str
) -> None:
    async with run_server(tmp_path, allowed_origins=(ALLOWED_ORIGIN,)) as server:
        response = await preflight(server.client, **headers)

    assert (response.status_code, response.text) == (400, message)
    assert response.headers["access-control-allow-origin"] == ALLOWED_ORIGIN


async def test_a_refused_preflight_names_its_origin(tmp_path: Path) -> None:
    async with run_server(tmp_path, allowed_origins=("https://other.example.org",)) as server:
        response = await preflight(server.client)

    assert (response.status_code, "access-control-allow-origin" in response.headers) == (400, False)
    assert response.text == (
        f"The origin {ALLOWED_ORIGIN!r} is not allowed. Allowed origins are listed in RUNYARD_ALLOWED_ORIGINS.\n"
    )


@pytest.mark.parametrize(
    ("text", "names"), [("", ()), ("Sentry-Trace, X-Any", ("Sentry-Trace", "X-Any")), ("*", ("*",))]
)
def test_allowed_headers_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_HEADERS", text)

    assert Settings().allowed_headers == names  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("text", ["X-One X-Two", "X-One: 1", "X-One; X-Two"])
def test_an_invalid_allowed_header_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_HEADERS", text)

    with pytest.raises(ValueError, match="is not a header name"):
        Settings()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("https://Runs.example.org/", ("https://runs.example.org",)),
        ("http://localhost:3000, http://[::1]:3000", ("http://localhost:3000", "http://[::1]:3000")),
        ("*", ("*",)),
    ],
)
def test_allowed_origins_are_normalized_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_ORIGINS", text)

    assert Settings().allowed_origins == origins  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("text", ["runs.example.org", "https://", "https://a/b", "https://a b", "https://u@a"])
def test_an_invalid_allowed_origin_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_ORIGINS", text)

    with pytest.raises(ValueError, match="is not an origin"):
        Settings()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4200", "localhost.evil.example", "127.0.0.1.evil.example"]
)
async def test_an_unknown_host_is_refused_on_a_loopback_address(client: Client, host: str) -> None:
    response = await client.http.post("/graphql", json=QUERY, headers={"Host": host})

    assert response.status_code == 421
    assert response.text == (
        f"The host {host.partition(':')[0]!r} is not allowed. Allowed hosts are listed in RUNYARD_ALLOWED_HOSTS.\n"
    )
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(client, Host=host)
    assert (refused.value.response.status_code, refused.value.response.body) == (403, response.content)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4200", "[::1]", "[::1]:4200"])
async def test_loopback_host_names_are_accepted_with_any_port(client: Client, host: str) -> None:
    response = await client.http.post("/graphql", json=QUERY, headers={"Host": host})

    assert response.json() == RESULT


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz/"])
async def test_health_checks_accept_any_host(client: Client, path: str) -> None:
    assert (await client.http.get(path, headers={"Host": "10.0.0.7:4200"})).status_code == 200


async def test_configured_host_names_replace_the_defaults(tmp_path: Path) -> None:
    async with run_server(tmp_path, allowed_hosts=("Runs.example.org",)) as server:
        statuses = [
            (await server.client.http.post("/graphql", json=QUERY, headers={"Host": host})).status_code
            for host in ("runs.example.org", "runs.example.org:443", "localhost")
        ]

    assert statuses == [200, 200, 421]


@pytest.mark.parametrize(
    ("host", "allowed", "hosts"),
    [
        ("127.0.0.1", (), {"localhost", "127.0.0.1", "[::1]"}),
        ("localhost", (), {"localhost", "127.0.0.1", "[::1]"}),
        ("127.0.0.2", (), {"localhost", "127.0.0.1", "[::1]", "127.0.0.2"}),
        ("0.0.0.0", (), None),  # noqa: S104
        ("runs.example.org", (), None),
        ("0.0.0.0", ("a", "B"), {"a", "b"}),  # noqa: S104
        ("127.0.0.1", ("*",), None),
    ],
)
def test_default_host_names_depend_on_the_listen_address(
    tmp_path: Path, host: str, allowed: tuple[str, ...], hosts: set[str] | None
) -> None:
    assert settings_for(tmp_path, host=host, allowed_hosts=allowed).hosts == hosts


@pytest.mark.parametrize(
    ("header", "name"),
    [(b"a", "a"), (b"a:1", "a"), (b"[::1]", "[::1]"), (b"[::1]:1", "[::1]"), (b"", ""), (b":1", ""), (b"a:b", "a:b")],
)
def test_the_port_is_not_part_of_the_host_name(header: bytes, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/graphql", 200), ("POST", "/graphql", 415), ("GET", "/healthz", 200), ("GET", "/nowhere", 404)],
)
async def test_every_response_has_browser_security_headers(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    response = await server.client.http.request(method, path, headers={"Accept": "text/html, */*"})

    assert response.status_code == status
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
