"""The trace that a request belongs to, by W3C's Trace Context: kept on the runs that it creates, for their workers."""

import re
from contextvars import ContextVar

trace_parent: ContextVar[str | None] = ContextVar("trace_parent", default=None)
"""What `traceparent` says while a request that belongs to a trace is carried out; else None."""

_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_trace_parent(text: str) -> bool:
    """Whether `text` names a trace, and a span of it, by the one version of the form that there is."""
    return _FORM.fullmatch(text) is not None
