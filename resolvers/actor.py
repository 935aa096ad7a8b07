"""The client on whose behalf the current request is executed. Its name is stored with the states that it sets."""

from contextvars import ContextVar

request_actor: ContextVar[str | None] = ContextVar("request_actor", default=None)
"""Name of the token of the current request, or its id if it has no name; None without authentication, and outside
requests."""
