"""Pages of lists, after the Relay connection specification: arguments, cursors and connections, the same for each noun."""

import base64
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Generic, TypeVar, cast

import strawberry
from graphql import GraphQLError

from resolvers import lists
from resolvers.errors import BadInput
from resolvers.ids import canonical_id
from resolvers.lists import Page, Place, Request, RowList, RowPage, Window
from schema.context import Info
from schema.execution.codegen import NotPlain, Prepared
from schema.inputs.arguments import read_count
from schema.inputs.cursors import content_of, write_cursor
from schema.limits.options import Limits
from schema.reads.row_plans import connection_plan
from schema.scalars import read_instant

Item = TypeVar("Item")

CURSOR_VERSION = 2
LARGEST_OFFSET = 2**31 - 1

First = Annotated[
    int | None,
    strawberry.argument(
        description="How many at most, from the front: 0 to 1,000, or less where the server is set so. "
        "Left out, with `last` too, 50."
    ),
]
After = Annotated[
    str | None, strawberry.argument(description="Only what comes after this cursor of the same list, filter and sort.")
]
Last = Annotated[
    int | None,
    strawberry.argument(
        description="How many at most, from the back: 0 to 1,000, or less where the server is set so. "
        "Not together with `first`."
    ),
]
Before = Annotated[
    str | None,
    strawberry.argument(
        description="Only what comes before this cursor of the same list, filter and sort. Alone, the last 50 of it."
    ),
]
Offset = Annotated[
    int | None,
    strawberry.argument(
        description="How many to leave out first, at the side that the page is counted from. Not together with a cursor. "
        "Far into a long list it is slow; go on from a cursor instead."
    ),
]


@strawberry.type(description="Where a page begins and ends, and whether there is more.")
class PageInfo:
    start_cursor: str | None = strawberry.field(description="The place of the first item; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="The place of the last item; null on an empty page.")

    @strawberry.field(graphql_type=bool, description="Whether the list goes on after this page.")
    def has_next_page(self, info: Info) -> bool | Awaitable[bool]:
        return cast("Answer", self).has_after(info)

    @strawberry.field(graphql_type=bool, description="Whether the list has anything before this page.")
    def has_previous_page(self, info: Info) -> bool | Awaitable[bool]:
        return cast("Answer", self).has_before(info)


@strawberry.type(description="An item of a page, with its place in the list.")
class Edge(Generic[Item]):
    cursor: str = strawberry.field(
        description="The item's place in this list, to go on from. Opaque; it fits no other list, filter or sort."
    )
    node: Item = strawberry.field(description="The item.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[Item]):
    edges: list[Edge[Item]] = strawberry.field(description="The items of this page with their places in the list.")
    nodes: list[Item] = strawberry.field(description="The items of this page.")
    page_info: PageInfo = strawberry.field(description="Where the page begins and ends, and whether there is more.")

    @strawberry.field(description="How many items the whole list has. Counted only when you ask for it.")
    async def total_count(self, info: Info) -> int:
        return await info.context.loaders.counts.load(cast("Answer", self).request.list)


@dataclass(frozen=True, slots=True)
class EdgeAnswer:
    """What an Edge reads."""

    cursor: str
    node: object


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Connection and its PageInfo read."""

    request: Request[Any]
    page: Page[Any] | RowPage
    written_nodes: Prepared | None = None
    written_edges: Prepared | None = None
    """What a page of rows has been made into; None where it was not asked for."""

    @property
    def nodes(self) -> list[Any] | Prepared | None:
        return self.written_nodes if isinstance(self.page, RowPage) else self.page.nodes

    @property
    def edges(self) -> list[EdgeAnswer] | Prepared | None:
        if isinstance(self.page, RowPage):
            return self.written_edges
        seal = _seal(self.request.list)
        return [
            EdgeAnswer(_cursor(seal, place), node)
            for place, node in zip(self.page.places, self.page.nodes, strict=True)
        ]

    @property
    def page_info(self) -> "Answer":
        return self

    @property
    def start_cursor(self) -> str | None:
        ends = self.page.ends
        return ends and _cursor(_seal(self.request.list), ends[0])

    @property
    def end_cursor(self) -> str | None:
        ends = self.page.ends
        return ends and _cursor(_seal(self.request.list), ends[1])

    def has_after(self, info: Info) -> bool | Awaitable[bool]:
        """Whether the list goes on after the page. What has been read tells it mostly, and then nothing is to be awaited."""
        window = self.request.window
        if not window.from_back and self.page.goes_on:
            return True
        if window.before is not None:
            ends = self.page.ends
            edge = ends[1] if ends else _with(window.before)
            return self._has_rows(info, after=edge, before=None)
        return window.from_back and self._left_out(info)

    def has_before(self, info: Info) -> bool | Awaitable[bool]:
        """As `has_after`, for what comes before the page."""
        window = self.request.window
        if window.from_back and self.page.goes_on:
            return True
        if window.after is not None:
            ends = self.page.ends
            edge = ends[0] if ends else _with(window.after)
            return self._has_rows(info, after=None, before=edge)
        return not window.from_back and self._left_out(info)

    async def _has_rows(self, info: Info, *, after: Place | None, before: Place | None) -> bool:
        wanted = self.request.list
        return await info.context.database.read(
            lambda connection: lists.has_rows(connection, wanted, after=after, before=before)
        )

    def _left_out(self, info: Info) -> bool | Awaitable[bool]:
        """Whether the offset left out anything."""
        if self.request.window.offset == 0 or self.page.ends:
            return self.request.window.offset > 0
        return self._has_any(info)

    async def _has_any(self, info: Info) -> bool:
        return await info.context.loaders.counts.load(self.request.list) > 0


def _with(place: Place) -> Place:
    return Place(place.key, place.id, takes_in=True)


async def answer(
    info: Info,
    wanted: RowList[Any],
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    offset: int | None,
) -> Answer:
    """The page that these arguments ask for. BadInput where they do not go together."""
    request = Request(wanted, read_window(info.context.limits, wanted, first, after, last, before, offset))
    if lists.has_row_pages(wanted) and (plan := connection_plan(info)) is not None:
        paths = plan.paths
        page = await info.context.database.read(lambda connection: lists.read_row_page(connection, request, paths))
        with suppress(NotPlain):
            seal = _seal(wanted) if plan.has_cursors else ""
            cursors = [_cursor(seal, place) for place in page.places] if plan.has_cursors else [""] * len(page.rows)
            return Answer(
                request, page, plan.nodes(page.rows, page.read_at), plan.edges(page.rows, page.read_at, cursors)
            )
    return Answer(request, await info.context.loaders.pages.load(request))


def read_window(
    limits: Limits,
    wanted: RowList[Any],
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    offset: int | None,
) -> Window:
    if first is not None and last is not None:
        raise BadInput("last", "can not be given together with first.")
    if offset and (after is not None or before is not None):
        raise BadInput("offset", "can not be given together with a cursor.")
    size = limits.default_page
    if first is not None:
        size = read_count("first", first, least=0, most=limits.page_size)
    elif last is not None:
        size = read_count("last", last, least=0, most=limits.page_size)
    return Window(
        size,
        from_back=last is not None or (first is None and after is None and before is not None),
        after=None if after is None else _read_cursor("after", wanted, after),
        before=None if before is None else _read_cursor("before", wanted, before),
        offset=0 if offset is None else read_count("offset", offset, least=0, most=LARGEST_OFFSET),
    )


# --- cursors: the version, which list it is a place of, and the place ---


def _seal(wanted: RowList[Any]) -> str:
    """Tells lists apart: other rows, another filter, another order, another parent."""
    named = f"{wanted.asked} {wanted.parent and wanted.parent.id}"
    return base64.urlsafe_b64encode(blake2b(named.encode(), digest_size=9).digest()).decode()


def _cursor(seal: str, place: Place) -> str:
    return write_cursor([CURSOR_VERSION, seal, place.key, place.id])


def _read_cursor(path: str, wanted: RowList[Any], cursor: str) -> Place:
    match content_of(cursor):
        case [2, str(seal), str() | None as key, str(id)]:
            if seal != _seal(wanted):
                raise BadInput(
                    path, "is a cursor of another list: a cursor fits the filter and sort that it came with."
                )
            place = _place_of(wanted, key, id)
            if place is not None:
                return place
        case [int(version), *_] if version != CURSOR_VERSION:
            raise BadInput(path, "is a cursor of another version of this server; begin again with the first page.")
        case _:
            pass
    raise BadInput(path, "is no cursor: take one from an edge or from pageInfo.")


def _place_of(wanted: RowList[Any], key: str | None, id: str) -> Place | None:
    """The place, if it is one that this list can have."""
    try:
        if key is not None and wanted.order.goes_by_time:
            key = read_instant(key)
        return Place(key, canonical_id(id))
    except (ValueError, GraphQLError):
        return None
