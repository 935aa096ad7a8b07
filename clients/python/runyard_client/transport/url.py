"""The URL of the GraphQL endpoint."""

from urllib.parse import urlsplit, urlunsplit

DEFAULT_URL = "http://127.0.0.1:4200"


def endpoint_url(url: str) -> str:
    """Return the URL of the GraphQL endpoint for the URL of a server. A URL without a path gets `/graphql`.

    Raises ValueError when it is not an absolute HTTP URL.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"The URL of the server must start with http:// or https:// and name a host; got {url!r}.")
    if parts.username or parts.password:
        raise ValueError("The URL of the server must not contain a user name or password. Use RUNYARD_TOKEN.")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/graphql", parts.query, ""))
