"""Options of the GraphQL engine that the operator can set."""

from dataclasses import dataclass, field

MAX_BATCH_SIZE = 1000
"""Items in one list of inputs or ids."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Upper limits for one document or one of its operations."""

    characters: int = 100_000
    tokens: int = 2000
    depth: int = 15
    aliases: int = 50
    directives: int = 50
    fields: int = 1000
    root_fields: int = 20
    repeats: int = 30
    cost: int = 200_000
    filter_conditions: int = 100
    filter_depth: int = 10
    filter_values: int = 1000
    filter_text: int = 1000
    page_size: int = 1000
    response_bytes: int = 64 * 1024 * 1024

    @property
    def default_page_size(self) -> int:
        """Page size when a request sets neither `first` nor `last`."""
        return min(50, self.page_size)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Limits and features of the GraphQL engine."""

    limits: RequestLimits = field(default_factory=RequestLimits)
    introspection: bool = True
    """Whether introspection queries are allowed. When false, error messages do not suggest names either."""
    request_seconds: float = 30.0
    """Time limit for a query or mutation, in seconds."""
    total_response_bytes: int = 256 * 1024 * 1024
    """Memory budget for all large responses in flight together, in bytes."""


DEFAULT_OPTIONS = EngineOptions()
