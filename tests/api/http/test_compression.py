"""Large responses are compressed for clients that accept gzip; small ones are not."""

import gzip
from pathlib import Path

import httpx
import orjson
import pytest

from runyard.http.compression import accepts_gzip
from tests.client import Client
from tests.serving import SQLITE_ONLY, run_server

pytestmark = SQLITE_ONLY


async def fetch_raw(client: Client, accept_encoding: str, count: int) -> tuple[httpx.Headers, bytes]:
    """Return the headers and the raw body of a response with `count` fields."""
    query = "{ " + " ".join(f"a{number}: __typename" for number in range(count)) + " }"
    headers = {"Accept-Encoding": accept_encoding}
    async with client.http.stream("POST", "/graphql", json={"query": query}, headers=headers) as response:
        return response.headers, b"".join([chunk async for chunk in response.aiter_raw()])


@pytest.mark.parametrize("threshold", [100, 0])
async def test_a_response_above_the_size_threshold_is_compressed(tmp_path: Path, threshold: int) -> None:
    async with run_server(tmp_path, compress_above_bytes=threshold) as server:
        headers, body = await fetch_raw(server.client, "br, gzip", 20)

    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert int(headers["content-length"]) == len(body)
    assert orjson.loads(gzip.decompress(body))["data"]["a19"] == "Query"


async def test_a_response_at_the_size_threshold_is_not_compressed(tmp_path: Path) -> None:
    async with run_server(tmp_path, compress_above_bytes=len(b'{"data":{"a0":"Query"}}')) as server:
        headers, body = await fetch_raw(server.client, "gzip", 1)

    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept"
    assert body == b'{"data":{"a0":"Query"}}'


async def test_a_response_is_not_compressed_for_clients_without_gzip(tmp_path: Path) -> None:
    async with run_server(tmp_path, compress_above_bytes=100) as server:
        headers, body = await fetch_raw(server.client, "br", 20)

    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert orjson.loads(body)["data"]["a0"] == "Query"


async def test_a_very_large_response_is_compressed_completely(client: Client) -> None:
    inputs = [{"taskKey": "t", "parameters": {"text": "x" * 200}} for _ in range(1000)]
    await client.execute("CreateTaskRuns", inputs=inputs)
    query = "{ taskRuns(first: 1000) { nodes { id parameters } } }"

    response = await client.http.post("/graphql", json={"query": query}, headers={"Accept-Encoding": "gzip"})

    assert response.headers["content-encoding"] == "gzip"
    assert len(response.content) > 200_000
    assert len(response.json()["data"]["taskRuns"]["nodes"]) == 1000


@pytest.mark.parametrize(
    ("header", "accepted"),
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
def test_accept_encoding_is_parsed_with_quality_values(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
