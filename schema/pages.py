"""Pages of lists, after the Relay connection specification."""

import base64

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
