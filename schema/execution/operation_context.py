"""What the engine needs to know about the context of an operation. Fields get the whole context."""

from typing import Protocol, Self

from schema.execution.selections import Selections
from schema.limits.time_limit import Deadline
from schema.permissions import Scopes


class OperationContext(Protocol):
    """The context of one operation, or of a connection that operations arrive on."""

    selections: Selections | None
    """What the operation selects, when the fast path executes it. The engine sets it before it calls the resolver."""
    deadline: Deadline | None
    """The time limit of the operation. The engine sets it; None for subscriptions."""

    @property
    def scopes(self) -> Scopes | None:
        """The scopes of the caller's token; None when no token is required."""
        ...

    def for_operation(self) -> Self:
        """Return a context for one operation, with its own data loaders."""
        ...
