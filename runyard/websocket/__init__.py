"""GraphQL over WebSocket, with a limit on the connections of each client.

Guarantees: malformed messages close the socket with a code of the graphql-transport-ws protocol and never raise.
Imports the layers below and `runyard.auth`, but not `runyard.http`.
"""
