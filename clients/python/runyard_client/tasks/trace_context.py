"""The W3C trace context that an enqueued run belongs to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard_client.context import Run


def current_trace_parent(run: Run | None) -> str | None:
    """Return the `traceparent` of the current OpenTelemetry span if the program uses it, or else that of `run`."""
    propagate = sys.modules.get("opentelemetry.propagate")  # imported only by programs that trace
    if propagate is not None:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if "traceparent" in carrier:
            return carrier["traceparent"]
    return run.trace_parent if run is not None else None
