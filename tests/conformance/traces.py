"""Read the recordings: one gzipped JSON Lines file per suite, with one trace per line.

A trace is a sequence of operations and recorded responses, with symbolic names for entities (`tr1`) and times relative to
its start (`t0+30`).
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent / "traces"

Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded sequence of operations."""

    id: str
    """Unique id: a repeated name within a suite gets the suffix `#2`, `#3` and so on."""
    steps: list[Step]
    is_fresh: bool
    """Whether the trace needs an empty database."""
    is_optional: bool
    """Whether the trace contains values of a wrong type, which the recorded server converted and a typed API may refuse."""
    elapsed: float
    """Duration of the recording in seconds."""


def suites() -> list[str]:
    """Return the sorted names of the suites."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in _HERE.glob("*.jsonl.gz"))


def traces(suite: str) -> Iterator[Trace]:
    """Yield the traces of a suite."""
    seen: Counter[str] = Counter()
    with gzip.open(_HERE / f"{suite}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            trace = json.loads(line)
            id = trace["id"].removeprefix("A:")
            seen[id] += 1
            if seen[id] > 1:
                id = f"{id}#{seen[id]}"
            optional = bool(trace.get("optional"))
            yield Trace(id, trace["steps"], trace["fresh"], optional, trace["elapsed"])
