"""Asks any of several servers, which may be away or on their way down."""

from collections.abc import Sequence
from random import Random
from typing import Any

import httpx

from queries import document
from tests.chaos.evidence import Journal

PATIENCE = 6.0
"""Seconds that an answer may take: a little more than the servers give the database."""


class Unanswered(Exception):
    """Nobody knows whether it was done. The same again is right."""


class Asker:
    """Sends operations by name, each to a server that chance picks."""

    def __init__(self, urls: Sequence[str], chance: Random, journal: Journal) -> None:
        self._urls = urls
        self._chance = chance
        self._journal = journal
        self._http = httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None))

    def url(self) -> str:
        return self._chance.choice(self._urls)

    async def ask(self, operation: str, **variables: Any) -> Any:
        """The value of the operation's one root field. Unanswered where asking again is right."""
        body = {"query": document(operation)[0], "variables": variables}
        try:
            response = await self._http.post(f"{self.url()}/graphql", json=body)
        except httpx.HTTPError as error:
            raise Unanswered from error
        answer = response.json()
        if "errors" in answer:
            if not all(each["extensions"].get("retryable") for each in answer["errors"]):
                self._journal.note("fault", message=f"{operation} was answered {answer['errors']}")
            raise Unanswered
        (value,) = answer["data"].values()
        return value

    async def close(self) -> None:
        await self._http.aclose()
