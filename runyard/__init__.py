"""The server: settings, the ASGI application, its process, and the command line.

    cli/            the command `runyard`
    http/           GraphQL over HTTP, event streams and health checks
    websocket/      GraphQL over WebSocket
    auth/           authentication by API tokens
    observability/  metrics and traces
    graphiql/       the GraphiQL page
    app.py          builds the ASGI application
    services.py     what lives as long as the server: database, dispatcher, feed, retention
    server.py       uvicorn, with a graceful shutdown

Contains no rules about runs: it hands requests to `schema`. Imports every other layer; no layer imports it.
"""

__version__ = "0.1.0"
