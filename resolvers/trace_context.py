"""W3C Trace Context of the current request. It is stored with the runs that the request creates, for their workers."""

import re
from contextvars import ContextVar

trace_parent: ContextVar[str | None] = ContextVar("trace_parent", default=None)
"""`traceparent` of the request that is being executed; None if the request belongs to no trace."""

_PATTERN = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_trace_parent(text: str) -> bool:
    """Return whether `text` is a valid `traceparent` of version 00, the only version of the format."""
    return _PATTERN.fullmatch(text) is not None
