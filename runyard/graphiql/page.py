"""Rendering of the GraphiQL page: HTML, configuration and response headers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
class Tab:
    """A document that is open at the first visit. The name of its operation is the title of the tab.

    The variables are JSON text, shown unchanged. Later visits show the tabs that the browser has stored.
    """

    query: str
    variables: str = ""


def graphiql_page(*, endpoint: str, tabs: Sequence[Tab], title: str, static_path: str = "/graphiql") -> GraphiQLPage:
    """Return a Starlette endpoint for GraphiQL that sends its requests to `endpoint` on the same origin.

    Subscriptions are sent to the same path over WebSocket. The page is rendered once, but each request gets a separate
    response, because middleware can change its headers. `static_path` is where `graphiql_static()` is mounted.
    """
    page = render_page(endpoint, tabs, title, static_path).encode()

    def show_graphiql(request: Request) -> Response:  # noqa: ARG001 - signature of a Starlette endpoint
        return HTMLResponse(page, headers=HEADERS)

    return show_graphiql


def render_page(endpoint: str, tabs: Sequence[Tab], title: str, static_path: str) -> str:
    entries = read_bundle().entries

    def url_of(name: str) -> str:
        return f"{static_path.rstrip('/')}/{name}"

    return PAGE_TEMPLATE.format(
        title=escape(title),
        favicon=escape(url_of(entries["favicon"])),
        licences=escape(url_of(entries["licences"])),
        style=escape(url_of(entries["style"])),
        script=escape(url_of(entries["script"])),
        preload="\n".join(f'<link rel="modulepreload" href="{escape(url_of(name))}">' for name in entries["preload"]),
        config=render_config(entries, endpoint, tabs, title, url_of),
    )


def render_config(
    entries: Entries, endpoint: str, tabs: Sequence[Tab], title: str, url_of: Callable[[str], str]
) -> str:
    config = {
        "title": title,
        "endpoint": endpoint,
        "tabs": [asdict(tab) for tab in tabs],
        "workers": {label: url_of(name) for label, name in entries["workers"].items()},
    }
    # Without this character, no text can end the script element or open a comment in it (script injection).
    return json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
