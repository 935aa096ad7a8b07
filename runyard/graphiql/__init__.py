"""The page that a browser sees at /graphql: GraphiQL, with our documents in its tabs.

It works without any other host: `static/` holds all that it loads, built by esbuild from `web/` and stored compressed,
under names that carry a hash of their content, so that a browser asks for each file once. The page's policy forbids
inline scripts, blobs and every foreign origin; what the page needs to know travels in a block of JSON.

`static/manifest.json` names the built files and the hashes of the sources that they were built from. After a change in
`web/`, run `npm ci && npm run build` there and commit both; `npm run check` says whether they belong together.

Nothing here knows the schema or the settings: whoever puts the application together hands over documents and a path.
"""

from runyard.graphiql.page import Page, Tab, graphiql_page
from runyard.graphiql.static_files import graphiql_static

__all__ = ["Page", "Tab", "graphiql_page", "graphiql_static"]
