"""The recordings: a gzip'd file of JSON lines for each suite, one trace a line.

A trace is a sequence of operations with symbolic names for entities (`tr1`) and times relative to its start (`t0+30`),
and with what the recorded server answered.
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
    """One recording."""

    id: str
    """Unique: a name that occurs again within a suite gets `#2`, `#3`, ... appended."""
    steps: list[Step]
    is_fresh: bool
    """Whether it needs an empty store; others may share one."""
    is_optional: bool
    """Whether it holds values of a wrong type, which the recorded server converted and a typed API may refuse."""
    elapsed: float
    """How many seconds the recording took."""


def suites() -> list[str]:
    """The names of the suites, in order."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in _HERE.glob("*.jsonl.gz"))


def traces(suite: str) -> Iterator[Trace]:
    """The traces of a suite."""
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
