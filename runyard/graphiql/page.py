"""Rendering of the GraphiQL page: HTML, configuration and response headers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from runyard.graphiql.bundle import Entries, read_bundle

HEADERS = {
    "Cache-Control": "no-cache",
    # The Monaco editor sets its sizes and colours with inline styles: without 'unsafe-inline' it stays hidden.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; worker-src 'self'; "
        "font-src 'self' data:; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    # The same URL returns JSON to programs.
    "Vary": "Accept",
}

PAGE_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" type="image/svg+xml" href="{favicon}">
<link rel="license" href="{licences}">
<link rel="stylesheet" href="{style}">
{preload}
<script type="application/json" id="runyard-config">{config}</script>
<script type="module" src="{script}"></script>
</head>
<body>
<div id="graphiql"></div>
<noscript><p>GraphiQL needs JavaScript. Other clients send their queries here by POST.</p></noscript>
</body>
</html>
"""


GraphiQLPage = Callable[[Request], Response]
"""Starlette endpoint that returns the page."""


@dataclass(frozen=True)
class ExampleDocument:
    """A document of one operation. The name of the operation is the title of its tab.

    The first line is a comment that states the purpose. The variables are JSON text, shown unchanged.
    """

    query: str
    variables: str = ""


@dataclass(frozen=True)
class Documents:
    """The documents of the page."""

    tabs: Sequence[ExampleDocument]
    """Open at the first visit. Later visits show the tabs that the browser has stored."""
    menu: Mapping[str, Sequence[ExampleDocument]]
    """All documents that can be opened, by the title of their group."""


def graphiql_page(*, endpoint: str, documents: Documents, title: str, static_path: str = "/graphiql") -> GraphiQLPage:
    """Return a Starlette endpoint for GraphiQL that sends its requests to `endpoint` on the same origin.

    Subscriptions are sent to the same path over WebSocket. `static_path` is where `graphiql_static()` is mounted. The
    page refers to both by URLs relative to its own, which also work below the path prefix of a proxy. It is rendered
    once for each depth of its path, but each request gets a separate response, because middleware can change its
    headers.
    """

    @cache
    def page_at(depth: int) -> bytes:
        base = "../" * depth
        return render_page(base + endpoint.lstrip("/"), documents, title, base + static_path.strip("/")).encode()

    def show_graphiql(request: Request) -> Response:
        return HTMLResponse(page_at(request.scope["path"].count("/") - 1), headers=HEADERS)

    return show_graphiql


def render_page(endpoint: str, documents: Documents, title: str, static_path: str) -> str:
    entries = read_bundle().entries

    def url_of(name: str) -> str:
        return f"{static_path}/{name}"

    return PAGE_TEMPLATE.format(
        title=escape(title),
        favicon=escape(url_of(entries["favicon"])),
        licences=escape(url_of(entries["licences"])),
        style=escape(url_of(entries["style"])),
        script=escape(url_of(entries["script"])),
        preload="\n".join(f'<link rel="modulepreload" href="{escape(url_of(name))}">' for name in entries["preload"]),
        config=render_config(entries, endpoint, documents, title, url_of),
    )


def render_config(
    entries: Entries, endpoint: str, documents: Documents, title: str, url_of: Callable[[str], str]
) -> str:
    config = {
        "title": title,
        "endpoint": endpoint,
        "subscriptionEndpoint": endpoint,
        "tabs": [asdict(document) for document in documents.tabs],
        "menu": [
            {"title": group, "documents": [asdict(document) for document in members]}
            for group, members in documents.menu.items()
        ],
        "workers": {label: url_of(name) for label, name in entries["workers"].items()},
    }
    # Without this character, no text can end the script element or open a comment in it (script injection).
    return json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
