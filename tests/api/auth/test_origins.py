"""Browsers: pages of other sites are not answered, nor whoever takes the server for another one."""

from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from runyard.http.host_check import name_in
from runyard.settings import Settings
from tests.client import Client, Socket
from tests.serving import Serving, serving, settings_for

ELSEWHERE = "https://elsewhere.example"
LISTED = "https://runs.example.org"
QUERY = {"query": "{ __typename }"}
ANSWER = {"data": {"__typename": "Query"}}


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


async def get(client: Client, **headers: str) -> httpx.Response:
    return await client.http.get("/graphql", params=QUERY, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def open_from(client: Client, **headers: str) -> None:
    """Open a socket, and see that it is served. InvalidStatus where it is refused."""
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


# --- pages of other sites ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Accept": "text/event-stream"},
    ],
)
async def test_a_page_of_another_site_can_not_ask_by_get(client: Client, headers: dict[str, str]) -> None:
    response = await get(client, **headers)

    assert response.status_code == 403
    (error,) = response.json()["errors"]
    assert (error["message"], error["extensions"]) == (
        "Pages of other sites can not ask by GET.",
        {"code": "FORBIDDEN"},
    )


async def test_our_own_page_and_programs_can(client: Client) -> None:
    answers = [
        await get(client),
        await get(client, Origin=client.url),
        await get(client, Sec_Fetch_Site="same-origin"),
        await get(client, Sec_Fetch_Site="none"),
    ]

    assert [answer.json() for answer in answers] == [ANSWER] * 4


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_a_page_can_post_unasked_is_no_request(client: Client, content_type: str) -> None:
    create = b'{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'

    response = await client.http.post(
        "/graphql", content=create, headers={"Content-Type": content_type, "Origin": ELSEWHERE}
    )

    assert response.status_code == 415
    assert await client.ask("CountTaskRuns") == 0


async def test_no_page_is_told_that_it_may_ask(client: Client) -> None:
    asked = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"}

    preflight = await client.http.options("/graphql", headers=asked)
    answered = await client.http.post("/graphql", json=QUERY, headers={"Origin": ELSEWHERE})

    assert preflight.status_code == 405
    for response in (preflight, answered):
        assert [name for name in response.headers if name.startswith("access-control")] == []


async def test_a_page_of_another_site_opens_no_socket(client: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await open_from(client, Origin=ELSEWHERE)

    assert refused.value.response.status_code == 403
    await open_from(client, Origin=client.url)


async def test_a_listed_site_may_do_all_three(tmp_path: Path) -> None:
    async with serving(tmp_path, allowed_origins=(LISTED,)) as server:
        client = server.client
        asked = {
            "Origin": LISTED,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = await client.http.options("/graphql", headers=asked)
        posted = await client.http.post("/graphql", json=QUERY, headers={"Origin": LISTED})
        got = await get(client, Origin=LISTED, Sec_Fetch_Site="cross-site")
        await open_from(client, Origin=LISTED)

        assert (preflight.status_code, posted.json(), got.json()) == (200, ANSWER, ANSWER)
        for response in (preflight, posted, got):
            assert response.headers["access-control-allow-origin"] == LISTED
            assert "access-control-allow-credentials" not in response.headers
        assert (await get(client, Origin=ELSEWHERE)).status_code == 403
        refused = await client.http.options("/graphql", headers=asked | {"Origin": ELSEWHERE})
        assert "access-control-allow-origin" not in refused.headers
        with pytest.raises(InvalidStatus):
            await open_from(client, Origin=ELSEWHERE)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("https://Runs.example.org/", ("https://runs.example.org",)),
        ("http://localhost:3000, http://[::1]:3000", ("http://localhost:3000", "http://[::1]:3000")),
        ("*", ("*",)),
    ],
)
def test_origins_are_read_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_ORIGINS", text)

    assert Settings().allowed_origins == origins  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("text", ["runs.example.org", "https://", "https://a/b", "https://a b", "https://u@a"])
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RUNYARD_ALLOWED_ORIGINS", text)

    with pytest.raises(ValueError, match="is no origin"):
        Settings()  # pyright: ignore[reportCallIssue]


# --- names of the server ---


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4200", "localhost.evil.example", "127.0.0.1.evil.example"]
)
async def test_on_a_loopback_address_another_name_is_refused(client: Client, host: str) -> None:
    response = await client.http.post("/graphql", json=QUERY, headers={"Host": host})

    assert response.status_code == 421
    assert response.text == (
        f"This server does not go by the name {host.partition(':')[0]!r}. RUNYARD_ALLOWED_HOSTS lists its names.\n"
    )
    with pytest.raises(InvalidStatus) as refused:
        await open_from(client, Host=host)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4200", "[::1]", "[::1]:4200"])
async def test_its_own_names_are_known_there_with_any_port(client: Client, host: str) -> None:
    response = await client.http.post("/graphql", json=QUERY, headers={"Host": host})

    assert response.json() == ANSWER


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_told_by_any_name(client: Client, path: str) -> None:
    assert (await client.http.get(path, headers={"Host": "10.0.0.7:4200"})).status_code == 200


async def test_the_names_that_are_set_are_the_only_ones(tmp_path: Path) -> None:
    async with serving(tmp_path, allowed_hosts=("Runs.example.org",)) as server:
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
def test_which_names_are_known_goes_by_the_address(
    tmp_path: Path, host: str, allowed: tuple[str, ...], hosts: set[str] | None
) -> None:
    assert settings_for(tmp_path, host=host, allowed_hosts=allowed).hosts == hosts


@pytest.mark.parametrize(
    ("header", "name"),
    [(b"a", "a"), (b"a:1", "a"), (b"[::1]", "[::1]"), (b"[::1]:1", "[::1]"), (b"", ""), (b":1", ""), (b"a:b", "a:b")],
)
def test_the_port_is_no_part_of_a_name(header: bytes, name: str) -> None:
    assert name_in(header) == name


# --- headers ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/graphql", 200), ("POST", "/graphql", 415), ("GET", "/healthz", 200), ("GET", "/nowhere", 404)],
)
async def test_every_answer_keeps_browsers_safe(server: Serving, method: str, path: str, status: int) -> None:
    response = await server.client.http.request(method, path, headers={"Accept": "text/html, */*"})

    assert response.status_code == status
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
