"""The page of runs that a bulk change examines, and what it returns."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from db.connection import Connection
from db.enums import StateType
from db.query.filters import Filter, has_condition
from db.query.pagination import OLDEST_FIRST, Listing, PageWindow, Position, Selection, read_page
from resolvers.actor import request_actor
from resolvers.errors import BadInput, Refusal
from resolvers.orchestration.transition import OrchestrationStatus

Verb_co = TypeVar("Verb_co", covariant=True)


@dataclass(frozen=True, slots=True)
class BulkChange(Generic[Verb_co]):
    """A verb, and the runs to apply it to: those that match a filter, oldest first, at most `limit` of them."""

    verb: Verb_co
    filter: Filter
    limit: int
    after: str | None = None
    """Id of the run after which to continue; None to start with the oldest."""
    actor: str | None = field(default_factory=request_actor.get)
    """The client that requests the change; None without authentication."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A run that a bulk change has examined and not changed."""

    run_id: str
    reason: str
    status: OrchestrationStatus | None = None
    """Decision of the rules; None when they were not applied."""
    refusal: Refusal | None = field(default=None, compare=False)
    """The error when the run's queue is full."""


@dataclass(frozen=True, slots=True)
class BulkChangeResult:
    """What a bulk change has done; for a dry run, what it would do."""

    matched: int
    """Number of runs that were examined."""
    rejections: Sequence[Rejection]
    has_more: bool
    """Whether more runs match after the last one that was examined."""
    last_id: str | None
    """Id of the last run that was examined; None when no run was."""

    @property
    def changed(self) -> int:
        return self.matched - self.rejected

    @property
    def rejected(self) -> int:
        return len(self.rejections)


@dataclass(frozen=True, slots=True)
class PageOfIds:
    """Ids of the runs to examine, in ascending order, and whether more runs match after them."""

    ids: Sequence[str]
    has_more: bool

    def result(self, matched: int, rejections: Iterable[Rejection]) -> BulkChangeResult:
        return BulkChangeResult(matched, list(rejections), self.has_more, self.ids[-1] if self.ids else None)


def find_page(
    connection: Connection,
    change: BulkChange[object],
    listing: Listing[Any],
    selection: Selection,
    states: Set[StateType],
    *,
    lock: bool,
) -> PageOfIds:
    """Return the next runs in these states that match the filter; with `lock`, lock them until the transaction ends.

    Raises BadInput for a filter without a condition, which would match every run.
    """
    if not has_condition(change.filter, listing.fields):
        raise BadInput("filter", "must have at least one condition. {id: {isNull: false}} matches every run.")
    types = {"state": {"type": {"in": sorted(states)}}}
    after = None if change.after is None else Position(change.after, change.after)
    page = read_page(
        connection,
        listing,
        {"and": [change.filter, types]},
        OLDEST_FIRST,
        PageWindow(change.limit, after=after),
        selection=selection,
        lock=lock,
    )
    return PageOfIds([id for _, id in page.rows], page.has_more)
