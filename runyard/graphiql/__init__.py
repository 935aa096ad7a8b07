"""The GraphiQL page that browsers receive at `/` and `/graphql`, with example documents in its tabs and in its menu.

    page.py          renders the page
    static_files.py  serves the built files
    bundle.py        reads the manifest of the last build
    web/             sources

Guarantees: the page loads files from its own origin only, and works offline. `static/` contains these files, built from
`web/` with esbuild and stored compressed. Their names contain a hash of their content, which allows browsers to cache
them permanently. The Content-Security-Policy of the page forbids inline scripts, blobs and every other origin. Its
configuration is a block of JSON.

`static/manifest.json` lists the built files and the hashes of their sources. After a change in `web/`, run
`npm ci && npm run build` there and commit both. `npm run check` reports whether `static/` matches the sources.

Does not depend on the schema or the settings: the caller passes documents and paths. Imports nothing of Runyard.
"""

from runyard.graphiql.page import Documents, ExampleDocument, GraphiQLPage, graphiql_page
from runyard.graphiql.static_files import graphiql_static

__all__ = ["Documents", "ExampleDocument", "GraphiQLPage", "graphiql_page", "graphiql_static"]
