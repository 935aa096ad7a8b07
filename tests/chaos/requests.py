"""A client of several servers that may be unavailable or stopping."""

from collections.abc import Sequence
from random import Random
from typing import Any

import httpx

from queries import document
from tests.chaos.evidence import Journal

TIMEOUT_SECONDS = 6.0
"""Timeout of a request: slightly above the database timeout of the servers."""


class OutcomeUnknown(Exception):
    """The request may or may not have been executed. It is safe to retry."""


class ReplicaClient:
    """Sends each operation to a random server, or to a given one."""

    def __init__(self, urls: Sequence[str], rng: Random, journal: Journal) -> None:
        self.urls = urls
        self._rng = rng
        self._journal = journal
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None))

    def url(self) -> str:
        """Return the URL of a random server."""
        return self._rng.choice(self.urls)

    async def execute(
        self, operation: str, *, url: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS, **variables: Any
    ) -> Any:
        """Execute an operation and return the value of its only root field. `url` selects the server.

        Raises OutcomeUnknown if the operation must be retried.
        """
        body = {"query": document(operation)[0], "variables": variables}
        try:
            response = await self._http.post(f"{url or self.url()}/graphql", json=body, timeout=timeout_seconds)
        except httpx.HTTPError as error:
            raise OutcomeUnknown from error
        payload = response.json()
        if "errors" in payload:
            if not all(each["extensions"].get("retryable") for each in payload["errors"]):
                self._journal.note("fault", message=f"{operation} failed with {payload['errors']}")
            raise OutcomeUnknown
        (value,) = payload["data"].values()
        return value

    async def close(self) -> None:
        await self._http.aclose()
