"""What an operator may decide about operations."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one document, or one operation of it, may have."""

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
    answer_bytes: int = 64 * 1024 * 1024

    @property
    def default_page(self) -> int:
        """How many items a page has at most where nobody says it."""
        return min(50, self.page_size)


@dataclass(frozen=True, slots=True)
class Rules:
    """How operations may be."""

    limits: Limits = field(default_factory=Limits)
    introspection: bool = True
    """Whether clients may ask what the schema is; where not, errors suggest no names either."""
    request_seconds: float = 30.0
    """How long a query or mutation may take."""
    answers_bytes: int = 256 * 1024 * 1024
    """What the large answers that are under way may have together."""


DEFAULT = Rules()
