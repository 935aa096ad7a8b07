"""Pages of lists, after the Relay connection specification."""

import base64
from collections.abc import Sequence

import strawberry


@strawberry.type(description="Where a page begins and ends, and whether there is more.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether the list goes on after this page.")
    has_previous_page: bool = strawberry.field(description="Whether the list has anything before this page.")
    start_cursor: str | None = strawberry.field(description="The place of the first item; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="The place of the last item; null on an empty page.")


def cursor_of(id: str) -> str:
    """The place of the row with this id in a list that is in order of ids."""
    return base64.urlsafe_b64encode(f"1:{id}".encode()).decode().rstrip("=")


def page_info(cursors: Sequence[str], *, has_next_page: bool) -> PageInfo:
    """What is to say of a page that begins its list, by the places of its items."""
    return PageInfo(
        has_next_page=has_next_page,
        has_previous_page=False,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )
