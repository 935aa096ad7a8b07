"""GraphQL types of the server that executes the request, and of the client that sent it."""

import strawberry

from resolvers.feed_lag import fetch_feed_lag
from schema.context import Info
from schema.enums import Scope
from schema.scalars import DateTime


@strawberry.type(description="Client that sent the request, as its API token identifies it.")
class Viewer:
    name: str | None = strawberry.field(description="Name of the token. Null when it was created without a name.")
    scopes: list[Scope] = strawberry.field(description="Scopes of the token, in the order READ, WRITE, WORK.")
    expires_at: DateTime | None = strawberry.field(
        description="Time at which the token expires. Null when it does not expire."
    )


@strawberry.type(
    description="Limits of a server on requests. A request beyond one of them fails. The maximum is 2,147,483,647."
)
class ServerLimits:
    max_body_bytes: int = strawberry.field(
        description="Maximum size of an HTTP request body in bytes (`RUNYARD_MAX_BODY_BYTES`)."
    )
    max_message_bytes: int = strawberry.field(
        description="Maximum size of a WebSocket message from a client in bytes (`RUNYARD_MAX_MESSAGE_BYTES`)."
    )
    max_response_bytes: int = strawberry.field(
        description=(
            "Maximum size of a response in bytes, and of the data that is read for it (`RUNYARD_MAX_RESPONSE_BYTES`)."
        )
    )
    max_page_size: int = strawberry.field(description="Maximum of `first` and `last` (`RUNYARD_MAX_PAGE_SIZE`).")
    max_task_keys: int = strawberry.field(description="Maximum number of task keys in one claim or subscription.")
    max_batch: int = strawberry.field(description="Maximum number of items in one list of inputs or ids.")


@strawberry.type(description="Information about the server process that executes the request.")
class ServerInfo:
    version: str = strawberry.field(description="Version of Runyard.")
    database: str = strawberry.field(description="Database system and its version, such as `SQLite 3.45.1`.")
    started_at: DateTime = strawberry.field(description="Time at which the server process started.")
    limits: ServerLimits = strawberry.field(description="Limits of this server on requests.")

    @strawberry.field(
        description=(
            "How long the oldest committed state change has been waiting to become readable in "
            "`taskRunStateChanges`, in seconds. It waits while an older transaction on the PostgreSQL cluster is open, "
            "in this or another database. 0 when no state change waits, and always 0 on SQLite."
        )
    )
    async def feed_lag_seconds(self, info: Info) -> float:
        return await fetch_feed_lag(info.context.database)
