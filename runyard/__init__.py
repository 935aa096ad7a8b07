"""The front door: puts the layers together into a command and a server, and decides nothing about runs.

cli.py          serve, db upgrade, token, schema print
settings.py     every environment variable, read once
app.py          build_app: database, queue, schema, routes, and their life from start to stop
http.py         GraphQL over HTTP      sockets.py   GraphQL over WebSocket
health.py       what operators ask     server.py    uvicorn, stopped in order
logs.py         how the log is written request_context.py   the id and the trace of a request
tracing.py      spans for OpenTelemetry
doctor.py       says what is wrong     pruning.py       deletes old runs
durations.py    as people write them   lock.py          one server for one SQLite file
tokens.py       makes API tokens       access.py        who is let in by them
wrong_tokens.py how many wrong ones are looked at
token_use.py    when tokens were last used
hosts.py        where requests are for socket_places.py how many sockets a client has
meter.py        measures what is done  metrics.py       tells Prometheus
huge_pages.py   where memory is        presence.py      whether a client is still there
around.py       what both do around operations
graphiql/       the page for people
"""

__version__ = "0.1.0"
