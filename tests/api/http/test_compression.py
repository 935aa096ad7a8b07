"""Large answers are compressed, for clients that take them so, and small ones are left alone."""

import gzip
from pathlib import Path

import httpx
import orjson
import pytest

from runyard.http.compression import takes_gzip
from tests.client import Client
from tests.serving import serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


async def sent(client: Client, accept_encoding: str, count: int) -> tuple[httpx.Headers, bytes]:
    """The headers of an answer, and its body as it came: `count` names of the type."""
    query = "{ " + " ".join(f"a{number}: __typename" for number in range(count)) + " }"
    headers = {"Accept-Encoding": accept_encoding}
    async with client.http.stream("POST", "/graphql", json={"query": query}, headers=headers) as response:
        return response.headers, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize("above", [100, 0])
async def test_an_answer_above_the_size_is_compressed(tmp_path: Path, above: int) -> None:
    async with serving(tmp_path, compress_above_bytes=above) as served:
        headers, body = await sent(served.client, "br, gzip", 20)

    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert int(headers["content-length"]) == len(body)
    assert orjson.loads(gzip.decompress(body))["data"]["a19"] == "Query"


async def test_an_answer_of_that_size_or_less_is_sent_as_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, compress_above_bytes=len(b'{"data":{"a0":"Query"}}')) as served:
        headers, body = await sent(served.client, "gzip", 1)

    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept"
    assert body == b'{"data":{"a0":"Query"}}'


async def test_an_answer_is_not_compressed_for_who_does_not_take_it(tmp_path: Path) -> None:
    async with serving(tmp_path, compress_above_bytes=100) as served:
        headers, body = await sent(served.client, "br", 20)

    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert orjson.loads(body)["data"]["a0"] == "Query"


async def test_a_very_large_answer_is_compressed_whole(client: Client) -> None:
    inputs = [{"taskKey": "t", "parameters": {"text": "x" * 200}} for _ in range(1000)]
    await client.ask("CreateTaskRuns", inputs=inputs)
    query = "{ taskRuns(first: 1000) { nodes { id parameters } } }"

    response = await client.http.post("/graphql", json={"query": query}, headers={"Accept-Encoding": "gzip"})

    assert response.headers["content-encoding"] == "gzip"
    assert len(response.content) > 200_000
    assert len(response.json()["data"]["taskRuns"]["nodes"]) == 1000


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("*, gzip;q=0.0", False),
        ("gzip; q=x", False),
        ("x-gzipped", False),
    ],
)
def test_accept_encoding_is_read_with_its_weights(header: str, takes: bool) -> None:
    assert takes_gzip(header) is takes
