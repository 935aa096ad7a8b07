"""GraphQL over HTTP, health checks, and the middleware that every request passes.

    endpoint.py     GraphQL by GET and POST, event streams, and GraphiQL for browsers
    disconnects.py  cancels requests whose client has disconnected
    host_check.py   rejects requests for unknown host names
    cors.py         allows pages of other origins
    request_id.py   request id, trace context and security headers
    health.py       liveness and readiness

Guarantees: requests are read in bounded time and memory, and error responses of the endpoint are JSON with a code.
Imports the layers below and `runyard.auth`, but not `runyard.websocket`.
"""
