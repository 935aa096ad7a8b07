"""Pagination after the Relay connection specification: arguments, cursors and connections for every list."""

import base64
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Generic, TypeVar, cast

import strawberry
from graphql import GraphQLError

from db.runtime.ids import canonical_id
from resolvers import lists
from resolvers.errors import BadInput
from resolvers.lists import CountRequest, ListPage, ListQuery, PageRequest, PageWindow, Position, RowPage
from schema.context import Info
from schema.execution.codegen import CompletedValue, NotCompilable
from schema.inputs.arguments import AtMost, validate_at_most, validate_count
from schema.inputs.cursors import decode_cursor, encode_cursor
from schema.limits.options import RequestLimits
from schema.reads.row_plans import plan_connection
from schema.scalars import parse_datetime

Item = TypeVar("Item")

CURSOR_VERSION = 2
MAX_OFFSET = 2**31 - 1

First = Annotated[
    int | None,
    strawberry.argument(
        description="Number of items to return from the start of the list, 0 to 1,000 (or the server's "
        "`RUNYARD_MAX_PAGE_SIZE`). Defaults to 50 when `last` is not set either."
    ),
]
After = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor. Only items after it are returned. It must come from the same list, filter and sort order."
    ),
]
Last = Annotated[
    int | None,
    strawberry.argument(
        description="Number of items to return from the end of the list, 0 to 1,000 (or the server's "
        "`RUNYARD_MAX_PAGE_SIZE`). Cannot be combined with `first`."
    ),
]
Before = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor. Only items before it are returned: the last 50 when `first`, `last` and `after` are not "
        "set. It must come from the same list, filter and sort order."
    ),
]
Offset = Annotated[
    int | None,
    strawberry.argument(
        description="Number of items to skip, counted from the end of the list with `last`. Cannot be combined with a "
        "cursor. Large offsets are slow: use cursors to page through long lists."
    ),
]


@strawberry.type(description="Position of a page in its list.")
class PageInfo:
    start_cursor: str | None = strawberry.field(description="Cursor of the first item. Null when the page is empty.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last item. Null when the page is empty.")

    @strawberry.field(graphql_type=bool, description="Whether the list has items after this page.")
    def has_next_page(self, info: Info) -> bool | Awaitable[bool]:
        return cast("ConnectionResult", self).has_after(info)

    @strawberry.field(graphql_type=bool, description="Whether the list has items before this page.")
    def has_previous_page(self, info: Info) -> bool | Awaitable[bool]:
        return cast("ConnectionResult", self).has_before(info)


@strawberry.type(description="Item of a page and its cursor.")
class Edge(Generic[Item]):
    cursor: str = strawberry.field(
        description="Opaque cursor of the item, for `after` and `before`. Valid only with the same list, filter and sort "
        "order."
    )
    node: Item = strawberry.field(description="The item.")


@strawberry.type(description="Page of a list.")
class ListConnection(Generic[Item]):
    edges: list[Edge[Item]] = strawberry.field(description="Items of this page with their cursors.")
    nodes: list[Item] = strawberry.field(description="Items of this page.")
    page_info: PageInfo = strawberry.field(description="Position of this page in the list.")

    @strawberry.field(
        description="Number of items that match the filter, on all pages. Counted only when this field is selected."
    )
    async def total_count(self, info: Info, at_most: AtMost = None) -> int:
        query = cast("ConnectionResult", self).request.list
        return await info.context.loaders.counts.load(CountRequest(query, validate_at_most(at_most)))


@dataclass(frozen=True, slots=True)
class EdgeResult:
    """Source of an `Edge`."""

    cursor: str
    node: object


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """Source of a `ListConnection` and its `PageInfo`."""

    request: PageRequest[Any]
    page: ListPage[Any] | RowPage
    completed_nodes: CompletedValue | None = None
    completed_edges: CompletedValue | None = None
    """Completed nodes and edges of a page of rows; None when they are not selected."""

    @property
    def nodes(self) -> list[Any] | CompletedValue | None:
        return self.completed_nodes if isinstance(self.page, RowPage) else self.page.nodes

    @property
    def edges(self) -> list[EdgeResult] | CompletedValue | None:
        if isinstance(self.page, RowPage):
            return self.completed_edges
        list_signature = _list_signature(self.request.list)
        return [
            EdgeResult(_encode_cursor(list_signature, position), node)
            for position, node in zip(self.page.positions, self.page.nodes, strict=True)
        ]

    @property
    def page_info(self) -> "ConnectionResult":
        return self

    @property
    def start_cursor(self) -> str | None:
        end_positions = self.page.end_positions
        return end_positions and _encode_cursor(_list_signature(self.request.list), end_positions[0])

    @property
    def end_cursor(self) -> str | None:
        end_positions = self.page.end_positions
        return end_positions and _encode_cursor(_list_signature(self.request.list), end_positions[1])

    def has_after(self, info: Info) -> bool | Awaitable[bool]:
        """Return whether the list continues after the page. Awaitable only when that takes another read."""
        window = self.request.window
        if not window.from_end and self.page.has_more:
            return True
        if window.before is not None:
            end_positions = self.page.end_positions
            edge = end_positions[1] if end_positions else _inclusive(window.before)
            return self._has_rows(info, after=edge, before=None)
        return window.from_end and self._has_skipped_items(info)

    def has_before(self, info: Info) -> bool | Awaitable[bool]:
        """Return whether the list has items before the page, as `has_after` does."""
        window = self.request.window
        if window.from_end and self.page.has_more:
            return True
        if window.after is not None:
            end_positions = self.page.end_positions
            edge = end_positions[0] if end_positions else _inclusive(window.after)
            return self._has_rows(info, after=None, before=edge)
        return not window.from_end and self._has_skipped_items(info)

    async def _has_rows(self, info: Info, *, after: Position | None, before: Position | None) -> bool:
        list_query = self.request.list
        return await info.context.database.read(
            lambda connection: lists.has_rows(connection, list_query, after=after, before=before)
        )

    def _has_skipped_items(self, info: Info) -> bool | Awaitable[bool]:
        """Return whether the offset skipped any items."""
        if self.request.window.offset == 0 or self.page.end_positions:
            return self.request.window.offset > 0
        return self._has_any_items(info)

    async def _has_any_items(self, info: Info) -> bool:
        return await info.context.loaders.counts.load(CountRequest(self.request.list, at_most=1)) > 0


def _inclusive(position: Position) -> Position:
    return Position(position.key, position.id, is_inclusive=True)


async def connection_result(
    info: Info,
    list_query: ListQuery[Any],
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    offset: int | None,
) -> ConnectionResult:
    """Read the page that these arguments request. Raises BadInput for invalid values and combinations."""
    request = PageRequest(
        list_query, build_page_window(info.context.limits, list_query, first, after, last, before, offset)
    )
    if lists.supports_row_pages(list_query) and (plan := plan_connection(info)) is not None:
        paths = plan.paths
        page = await info.context.database.read(lambda connection: lists.read_row_page(connection, request, paths))
        with suppress(NotCompilable):
            list_signature = _list_signature(list_query) if plan.has_cursors else ""
            cursors = (
                [_encode_cursor(list_signature, position) for position in page.positions]
                if plan.has_cursors
                else [""] * len(page.rows)
            )
            return ConnectionResult(
                request, page, plan.nodes(page.rows, page.read_at), plan.edges(page.rows, page.read_at, cursors)
            )
    return ConnectionResult(request, await info.context.loaders.pages.load(request))


def build_page_window(
    limits: RequestLimits,
    list_query: ListQuery[Any],
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    offset: int | None,
) -> PageWindow:
    if first is not None and last is not None:
        raise BadInput("last", "cannot be combined with `first`.")
    if offset and (after is not None or before is not None):
        raise BadInput("offset", "cannot be combined with `after` or `before`.")
    size = limits.default_page_size
    if first is not None:
        size = validate_count("first", first, minimum=0, maximum=limits.page_size)
    elif last is not None:
        size = validate_count("last", last, minimum=0, maximum=limits.page_size)
    return PageWindow(
        size,
        from_end=last is not None or (first is None and after is None and before is not None),
        after=None if after is None else _parse_cursor("after", list_query, after),
        before=None if before is None else _parse_cursor("before", list_query, before),
        offset=0 if offset is None else validate_count("offset", offset, minimum=0, maximum=MAX_OFFSET),
    )


# --- Cursors: version, list signature, sort key and id ---


def _list_signature(list_query: ListQuery[Any]) -> str:
    """Return a hash that distinguishes lists by their rows, filter, sort order and parent."""
    identity = f"{list_query.signature} {list_query.parent and list_query.parent.id}"
    return base64.urlsafe_b64encode(blake2b(identity.encode(), digest_size=9).digest()).decode()


def _encode_cursor(list_signature: str, position: Position) -> str:
    return encode_cursor([CURSOR_VERSION, list_signature, position.key, position.id])


def _parse_cursor(path: str, list_query: ListQuery[Any], cursor: str) -> Position:
    match decode_cursor(cursor):
        case [2, str(list_signature), str() | None as key, str(id)]:
            if list_signature != _list_signature(list_query):
                raise BadInput(
                    path, "is a cursor of another list. Use a cursor only with the same list, filter and sort order."
                )
            position = _parse_position(list_query, key, id)
            if position is not None:
                return position
        case [int(version), *_] if version != CURSOR_VERSION:
            raise BadInput(path, "is a cursor of another server version. Start again from the first page.")
        case _:
            pass
    raise BadInput(path, "is not a valid cursor. Use a cursor from `edges` or `pageInfo`.")


def _parse_position(list_query: ListQuery[Any], key: str | None, id: str) -> Position | None:
    """Return the position; None when it is not valid in this list."""
    try:
        if key is not None and list_query.order.is_by_time:
            key = parse_datetime(key)
        return Position(key, canonical_id(id))
    except (ValueError, GraphQLError):
        return None
