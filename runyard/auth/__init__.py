"""Authentication by API tokens, for HTTP and WebSocket.

    authenticator.py    verifies tokens, with a cache of tokens in use
    failed_attempts.py  limits invalid tokens by client address
    last_used.py        records when tokens were last used

Guarantees: a request with a cached token waits for no statement. A revoked token is accepted for at most five seconds
while the database is available. Imports `resolvers` and `db`, and no other room of `runyard`.
"""
