"""Generate values by type, including unusual ones, from a seeded random generator."""

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, is_required_input_field

from tests.hostile.documents import NUMBERS, TEXTS, TIMESTAMPS, UNKNOWN_IDS

MAX_KNOWN = 60
MAX_NESTING = 4
SMALLEST_INT, LARGEST_INT = -(2**31), 2**31 - 1

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURSOR = re.compile(r"[cC]ursor': '([^']+)'")


class Coverage:
    """The schema coordinates used so far, such as `Query.flow`, `Query.flow(id:)` or `IdFilter.in`."""

    def __init__(self) -> None:
        self.reached: set[str] = set()

    def pick(self, random: Random, owner: str, names: Sequence[str], limit: int) -> list[str]:
        """Return up to `limit` of these names; every other time only unused names, if there are any."""
        new = [name for name in names if f"{owner}{name}" not in self.reached]
        pool = new if new and random.random() < 0.5 else names
        return random.sample(pool, min(random.randint(0, limit), len(pool)))

    def add(self, coordinate: str) -> None:
        self.reached.add(coordinate)


class Values:
    """Values of any input type, as JSON. The share `wrong_type_share` of them has another type."""

    def __init__(self, known: Sequence[str], random: Random, coverage: Coverage) -> None:
        self._random = random
        self._coverage = coverage
        self._ids = list(known)
        self._seen: deque[str] = deque(maxlen=MAX_KNOWN)
        self._cursors: deque[str] = deque(maxlen=MAX_KNOWN)
        self._now = datetime.now(UTC)
        self.wrong_type_share = 0.0

    def learn(self, response: object) -> None:
        """Use the ids and cursors of this response in later values."""
        text = str(response)
        self._seen.extend(_ID.findall(text)[:5])
        self._cursors.extend(_CURSOR.findall(text)[:5])

    def of(self, type_: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value of a type for an argument or field of this name."""
        random = self._random
        if self.wrong_type_share and random.random() < self.wrong_type_share:
            return self.json()
        if isinstance(type_, GraphQLNonNull):
            return self._valid_value(type_.of_type, name, depth)
        return None if random.random() < 0.05 else self._valid_value(type_, name, depth)

    def _valid_value(self, type_: Any, name: str, depth: int) -> Any:
        random = self._random
        if isinstance(type_, GraphQLList):
            if random.random() < 0.05:
                return self.of(type_.of_type, name, depth)  # GraphQL coerces an item to a list of one
            return [self.of(type_.of_type, name, depth + 1) for _ in range(random.randint(0, 3 if depth < 3 else 1))]
        if isinstance(type_, GraphQLEnumType):
            found = self._coverage.pick(random, f"{type_.name}.", list(type_.values), 1)
            value = found[0] if found else random.choice(list(type_.values))
            self._coverage.add(f"{type_.name}.{value}")
            return value
        if isinstance(type_, GraphQLInputObjectType):
            return self._object(type_, depth)
        return getattr(self, f"_{type_.name.lower()}")(name)

    def _object(self, type_: GraphQLInputObjectType, depth: int) -> dict[str, Any]:
        fields = type_.fields
        needed = [name for name, field in fields.items() if is_required_input_field(field)]
        others = [name for name in fields if name not in needed]
        # Limit the nesting of input objects, because types may contain themselves.
        others = self._coverage.pick(self._random, f"{type_.name}.", others, 4 if depth < MAX_NESTING else 1)
        if depth >= MAX_NESTING:
            others = [name for name in others if f"{fields[name].type}".strip("[]!") != type_.name]
        chosen = [*needed, *others]
        for name in chosen:
            self._coverage.add(f"{type_.name}.{name}")
        return {name: self.of(fields[name].type, name, depth + 1) for name in chosen}

    def json(self, depth: int = 0) -> Any:
        """Return any JSON value."""
        random = self._random
        kind = random.randrange(7 if depth < 3 else 5)
        if kind < 2:
            return random.choice([None, True, False, {}, []])
        if kind == 2:
            return random.choice(NUMBERS)
        if kind < 5:
            return random.choice(TEXTS) if self.wrong_type_share else self._string("")
        if kind == 5:
            return [self.json(depth + 1) for _ in range(random.randint(0, 3))]
        return {self._string(""): self.json(depth + 1) for _ in range(random.randint(0, 3))}

    def _string(self, name: str) -> str:
        random = self._random
        if name in ("after", "before") and self._cursors and random.random() < 0.7:
            return random.choice(self._cursors)
        if random.random() < 0.6:
            return random.choice(["a", "b", "hostile", "RUNNING"])
        # A NUL is refused anywhere, before all other checks.
        return random.choice([text for text in TEXTS if "\0" not in text])

    def _id(self, _name: str) -> str:
        random = self._random
        return random.choice([random.choice(self._ids)] * 3 + [*self._seen][-5:] + [random.choice(UNKNOWN_IDS)])

    def _datetime(self, _name: str) -> str:
        random = self._random
        if random.random() < 0.2:
            return random.choice(TIMESTAMPS if self.wrong_type_share else TIMESTAMPS[:3])
        return (self._now + timedelta(seconds=random.uniform(-7200, 7200))).isoformat()

    def _int(self, _name: str) -> int:
        random = self._random
        return random.randint(0, 5) if random.random() < 0.8 else random.choice([-1, SMALLEST_INT, LARGEST_INT, 1000])

    def _float(self, name: str) -> float:
        random = self._random
        if name == "waitSeconds":
            # Long waits would only slow the attack down.
            return random.choice([0, 0.01, 0.02, -1, 60.5, 1e308])
        return random.choice([60, 600, 3600, 1.5]) if random.random() < 0.8 else random.choice([0, -1, 1e308, 5e-324])

    def _boolean(self, _name: str) -> bool:
        return self._random.random() < 0.5

    def _json(self, _name: str) -> Any:
        return self.json()
