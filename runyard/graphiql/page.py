import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from runyard.graphiql.bundle import Entries, read_bundle

HEADERS = {
    "Cache-Control": "no-cache",
    # Monaco, the editor, sets its measures and colours as inline styles: without 'unsafe-inline' it stays hidden.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; worker-src 'self'; "
        "font-src 'self' data:; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    # One address answers programs too, with JSON.
    "Vary": "Accept",
}

PAGE = """\
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


Page = Callable[[Request], Response]
"""Answers a browser's request with the page."""


@dataclass(frozen=True)
class Tab:
    """A document that is open at the first visit; its operation's name becomes the tab's title.

    The variables are JSON text, shown as written. Later visits show what the browser remembers instead.
    """

    query: str
    variables: str = ""


def graphiql_page(*, endpoint: str, tabs: Sequence[Tab], title: str, static_path: str = "/graphiql") -> Page:
    """A Starlette endpoint that answers with GraphiQL, ready to talk to `endpoint` on the same origin.

    Subscriptions go to the same address as a WebSocket. The page is written once; each request gets a response of its
    own, since middleware may change its headers. `static_path` is where `graphiql_static()` is mounted.
    """
    page = write_page(endpoint, tabs, title, static_path).encode()

    def show_graphiql(request: Request) -> Response:  # noqa: ARG001 - the shape of an endpoint
        return HTMLResponse(page, headers=HEADERS)

    return show_graphiql


def write_page(endpoint: str, tabs: Sequence[Tab], title: str, static_path: str) -> str:
    entries = read_bundle().entries

    def address(name: str) -> str:
        return f"{static_path.rstrip('/')}/{name}"

    return PAGE.format(
        title=escape(title),
        favicon=escape(address(entries["favicon"])),
        licences=escape(address(entries["licences"])),
        style=escape(address(entries["style"])),
        script=escape(address(entries["script"])),
        preload="\n".join(f'<link rel="modulepreload" href="{escape(address(name))}">' for name in entries["preload"]),
        config=write_config(entries, endpoint, tabs, title, address),
    )


def write_config(
    entries: Entries, endpoint: str, tabs: Sequence[Tab], title: str, address: Callable[[str], str]
) -> str:
    config = {
        "title": title,
        "endpoint": endpoint,
        "tabs": [asdict(tab) for tab in tabs],
        "workers": {label: address(name) for label, name in entries["workers"].items()},
    }
    # Without this character no text can end the script element or open a comment in it.
    return json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
