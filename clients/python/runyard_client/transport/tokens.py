"""The API token, and where it is read from."""

import os
from collections.abc import Callable
from pathlib import Path

from runyard_client.errors import RunyardError

TOKEN_VARIABLE = "RUNYARD_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE_VARIABLE = "RUNYARD_TOKEN_FILE"  # noqa: S105 - the name of a variable


class InvalidToken(RunyardError):
    """The API token is not usable in an HTTP header. The message does not contain it."""


class TokenSource:
    """Provide the API token: an argument, a function that returns it, RUNYARD_TOKEN or the file RUNYARD_TOKEN_FILE.

    Without an argument, the environment is read at the first use. An empty token means none.
    """

    def __init__(self, token: str | Callable[[], str | None] | None = None) -> None:
        self._token = token
        self._current: str | None = None
        self._is_read = False

    def current(self) -> str | None:
        """Return the token that was read last. Raises InvalidToken, and OSError when the file cannot be read."""
        if not self._is_read:
            self.reread()
        return self._current

    def reread(self) -> bool:
        """Read the token again, and return whether it has changed. Raises as `current` does."""
        previous, self._current = self._current, _validate(self._read())
        was_read, self._is_read = self._is_read, True
        return not was_read or self._current != previous

    def _read(self) -> str | None:
        if callable(self._token):
            return self._token()
        if self._token is not None:
            return self._token
        if token := os.environ.get(TOKEN_VARIABLE):
            return token
        if path := os.environ.get(TOKEN_FILE_VARIABLE):
            return Path(path).read_text("utf-8")
        return None


def _validate(token: str | None) -> str | None:
    token = (token or "").strip()
    if not token:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidToken("The API token must consist of printable ASCII characters without spaces.")
    return token
