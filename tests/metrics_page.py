"""The page `/metrics` of a server under test."""

import re

from tests.serving import RunningServer


async def scrape(server: RunningServer) -> dict[str, float]:
    """Scrape every sample by name and labels, bypassing the cache."""
    server.app.state.prometheus._fresh_until = 0.0
    response = await server.client.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples = re.findall(r"^([^#\s]\S*(?:\{.*\})?) (\S+)$", response.text, re.MULTILINE)
    return {name: float(value) for name, value in samples}
