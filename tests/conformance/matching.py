"""Whether what a server did is what was recorded.

What is seen is made of plain JSON values and of three kinds that a recording can not hold as they are: an `Instant` was
recorded relative to the trace's start (`t0+30`, exactly) or as "the server's clock during step 7" (`op7`); a `Duration`
that depends on the speed of the machine as about so many seconds; a `MadeUp` name as made up by the server.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MICROSECONDS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

RESOLUTION = 2
"""By how many microseconds exact instants may differ."""
SKEW = 5_000
"""By how many microseconds an instant may lie outside of the step in which the server's clock was read."""
NOT_COMPARED = frozenset({"max_retries", "retry_delay_seconds"})
"""Deprecated fields of policies, which Runyard does not have: they are folded before they are sent."""

OFFSET = re.compile(r"^t0([+-]\d+(?:\.\d+)?)$")
_DURING = re.compile(r"^op(\d+)(?:\+(.+))?$")


class Instant(int):
    """A moment, in microseconds since the epoch."""


class Duration(float):
    """Seconds that pass while the trace is played."""

    runs = 1
    """Of how many runs they are the sum."""

    @classmethod
    def summed(cls, seconds: float, runs: int) -> "Duration":
        duration = cls(seconds)
        duration.runs = runs
        return duration


class MadeUp(str):
    """A name that the server made up."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place in an answer that is not as recorded."""

    path: str
    expected: Any
    got: Any
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.path or 'answer'}: expected {_short(self.expected)}, got {_short(self.got)}{note}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "..."


def read_instant(text: str | None) -> Instant | None:
    if text is None:
        return None
    return Instant((datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1))


def write_instant(microseconds: int) -> str:
    moment = EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds")


def offset_from_start(text: str) -> int | None:
    """The microseconds after the start that `t0+30` speaks of; None for other texts."""
    match = OFFSET.match(text)
    return round(float(match[1]) * MICROSECONDS) if match else None


class Times:
    """When a trace began and when each of its steps was carried out, by the clock of this machine."""

    def __init__(self, elapsed_when_recorded: float) -> None:
        self.start = int(time.time()) * MICROSECONDS
        self.steps: list[tuple[int, int]] = []
        self._elapsed_when_recorded = elapsed_when_recorded

    @property
    def tolerance(self) -> float:
        """By how many seconds a duration may differ."""
        return self._elapsed_when_recorded + (time.time() - self.start / MICROSECONDS) + 1

    def seconds_from_start(self, text: str) -> float:
        moment = read_instant(text)
        assert moment is not None
        return (moment - self.start) / MICROSECONDS

    def span(self, text: str) -> tuple[int, int] | None:
        """Between which moments the recorded instant lies."""
        offset = offset_from_start(text)
        if offset is not None:
            return self.start + offset, self.start + offset
        match = _DURING.match(text)
        if match is None:
            return None
        later = round(float(match[2] or 0) * MICROSECONDS)
        first, last = self.steps[int(match[1])]
        return first + later, last + later


class Comparison:
    """Compares one answer with the recorded one, and collects how they differ."""

    def __init__(self, times: Times) -> None:
        self.mismatches: list[Mismatch] = []
        self._times = times
        self._by_key: dict[str, Callable[[Any, Any, str], None]] = {
            "order": self._order,
            "delay": self._delay,
            "retry_delay": self._retry_delay,
        }

    def compare(self, expected: Any, got: Any, path: str = "", key: str = "") -> None:
        """Go through both, and note each place where they differ."""
        if key in self._by_key:
            self._by_key[key](expected, got, path)
        elif isinstance(got, Instant):
            self._instant(expected, got, path)
        elif isinstance(got, Duration):
            self._duration(expected, got, path)
        elif isinstance(got, MadeUp) or (isinstance(expected, dict) and set(expected) == {"auto"}):
            made_up = {"auto": bool(got)} if isinstance(got, MadeUp) else got
            self._equal(expected, made_up, path)
        elif isinstance(expected, dict) and isinstance(got, dict):
            self._objects(expected, got, path)
        elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
            for place, (one, other) in enumerate(zip(expected, got, strict=True)):
                self.compare(one, other, f"{path}[{place}]", key)
        else:
            self._equal(expected, got, path)

    def note(self, path: str, expected: Any, got: Any, note: str = "") -> None:
        self.mismatches.append(Mismatch(path, expected, got, note))

    def _equal(self, expected: Any, got: Any, path: str) -> None:
        same_kind = isinstance(expected, bool) == isinstance(got, bool)
        if isinstance(expected, float) and isinstance(got, int | float) and same_kind:
            same = abs(expected - got) <= 1.5e-3
        else:
            same = expected == got and same_kind
        if not same:
            self.note(path, expected, got)

    def _objects(self, expected: dict[str, Any], got: dict[str, Any], path: str) -> None:
        for key in sorted((expected.keys() | got.keys()) - NOT_COMPARED):
            below = f"{path}.{key}" if path else key
            if key not in got:
                if expected[key] is not None:
                    self.note(below, expected[key], None, "is missing")
            elif key not in expected:
                # A message that no caller gave is the server's own wording.
                if key != "message":
                    self.note(below, None, got[key], "is unexpected")
            else:
                self.compare(expected[key], got[key], below, key)

    def _instant(self, expected: Any, got: Instant, path: str) -> None:
        span = self._times.span(expected) if isinstance(expected, str) else None
        if span is None:
            self.note(path, expected, self._from_start(got))
            return
        first, last = span
        slack = RESOLUTION if first == last else SKEW
        if not first - slack <= got <= last + slack:
            self.note(path, expected, self._from_start(got), f"off by {(got - first) / MICROSECONDS:.6f} s")

    def _from_start(self, moment: int) -> str:
        return f"t0{(moment - self._times.start) / MICROSECONDS:+.6f}"

    def _duration(self, expected: Any, got: Duration, path: str) -> None:
        if expected == 0:
            if abs(got) > 1e-9:
                self.note(path, 0, float(got))
        elif not isinstance(expected, dict) or got < 0 or abs(got - expected["~s"]) > got.runs * self._times.tolerance:
            self.note(path, expected, float(got))

    def _order(self, expected: str, got: dict[str, Instant], path: str) -> None:
        """How the instants of a run relate: `a<b=c`; `<` is "not later"."""
        names, signs = re.split("[=<]", expected) if expected else [], re.findall("[=<]", expected)
        if set(names) != set(got):
            self.note(path, expected, sorted(got), "which instants there are")
            return
        for sign, before, after in zip(signs, names, names[1:], strict=False):
            gap = got[after] - got[before]
            if (sign == "=" and abs(gap) > RESOLUTION) or gap < -SKEW:
                self.note(path, expected, f"{after} - {before} = {gap / MICROSECONDS:.6f} s")
                return

    def _delay(self, expected: dict[str, Any] | None, got: dict[str, Any] | None, path: str) -> None:
        """How long to wait: so many seconds, or until an instant, by the clock during this step."""
        if not expected or "until" not in expected or not got:
            self._equal(expected, got, path)
            return
        span = self._times.span(expected["until"])
        assert span is not None, expected
        begun, ended = self._times.steps[-1]
        least, most = (span[0] - ended) / MICROSECONDS - 1.1, (span[1] - begun) / MICROSECONDS + 1.1
        if not least <= got["seconds"] <= most:
            self.note(path, expected, got)

    def _retry_delay(self, expected: Any, got: Any, path: str) -> None:
        """One delay for all retries is a list of one here."""
        self._equal([expected] if isinstance(expected, int | float) else expected, got, path)


def compare_page(
    step: dict[str, Any], items: list[str], names: list[str], ids: dict[str, str], comparison: Comparison
) -> None:
    """Whether a page holds as many runs as recorded, and in an order that the sort allows.

    Where ids decide, they are this server's; where keys are equal, any order is right.
    """
    expected, offset = step["expect"], step.get("offset") or 0
    if len(items) != expected["n"] or len(set(items)) != len(items):
        comparison.note("items", expected["n"], items, "how many, each once")
    elif "by_id_desc" in expected:
        ordered = sorted(expected["by_id_desc"], key=lambda name: ids[name], reverse=True)
        comparison.compare(ordered[offset : offset + expected["n"]], items, "items")
    elif "by_name" in expected:
        if not set(items) <= set(expected["by_name"]):
            comparison.note("items", expected["by_name"], items)
        comparison.compare(sorted(names, reverse=step["sort"] == "NAME_DESC"), names, "names")
    else:
        places = [set(group) for group in expected["groups"] for _ in group]
        if any(item not in places[offset + place] for place, item in enumerate(items)):
            comparison.note("items", expected["groups"], items, f"from {offset}")
