"""Values by their types, odd ones among them, from a random generator that has a seed."""

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, is_required_input_field

from tests.hostile.documents import INSTANTS, NUMBERS, TEXTS, UNKNOWN

MOST_KNOWN = 60
MOST_NESTED = 4
SMALLEST_INT, LARGEST_INT = -(2**31), 2**31 - 1

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURSOR = re.compile(r"[cC]ursor': '([^']+)'")


class Coverage:
    """What of the schema has been used, by its coordinates: `Query.flow`, `Query.flow(id:)`, `IdFilter.any`."""

    def __init__(self) -> None:
        self.reached: set[str] = set()

    def pick(self, random: Random, owner: str, names: Sequence[str], most: int) -> list[str]:
        """Some of these names; those that were never used come first, every other time."""
        new = [name for name in names if f"{owner}{name}" not in self.reached]
        pool = new if new and random.random() < 0.5 else names
        return random.sample(pool, min(random.randint(0, most), len(pool)))

    def add(self, coordinate: str) -> None:
        self.reached.add(coordinate)


class Values:
    """Values of any input type, as JSON. One in `wrong` is of another type, where it is not 0."""

    def __init__(self, known: Sequence[str], random: Random, coverage: Coverage) -> None:
        self._random = random
        self._coverage = coverage
        self._ids = list(known)
        self._seen: deque[str] = deque(maxlen=MOST_KNOWN)
        self._cursors: deque[str] = deque(maxlen=MOST_KNOWN)
        self._now = datetime.now(UTC)
        self.wrong = 0.0

    def learn(self, answer: object) -> None:
        """Use the ids and cursors of an answer from now on."""
        text = str(answer)
        self._seen.extend(_ID.findall(text)[:5])
        self._cursors.extend(_CURSOR.findall(text)[:5])

    def of(self, type_: Any, name: str = "", depth: int = 0) -> Any:
        """A value of a type, for an argument or field of this name."""
        random = self._random
        if self.wrong and random.random() < self.wrong:
            return self.json()
        if isinstance(type_, GraphQLNonNull):
            return self._right(type_.of_type, name, depth)
        return None if random.random() < 0.05 else self._right(type_, name, depth)

    def _right(self, type_: Any, name: str, depth: int) -> Any:
        random = self._random
        if isinstance(type_, GraphQLList):
            if random.random() < 0.05:
                return self.of(type_.of_type, name, depth)  # an item is taken for a list of one
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
        # Objects in objects of the same type end soon, or there is no end.
        others = self._coverage.pick(self._random, f"{type_.name}.", others, 4 if depth < MOST_NESTED else 1)
        if depth >= MOST_NESTED:
            others = [name for name in others if f"{fields[name].type}".strip("[]!") != type_.name]
        given = [*needed, *others]
        for name in given:
            self._coverage.add(f"{type_.name}.{name}")
        return {name: self.of(fields[name].type, name, depth + 1) for name in given}

    def json(self, depth: int = 0) -> Any:
        """Any JSON value."""
        random = self._random
        kind = random.randrange(7 if depth < 3 else 5)
        if kind < 2:
            return random.choice([None, True, False, {}, []])
        if kind == 2:
            return random.choice(NUMBERS)
        if kind < 5:
            return random.choice(TEXTS) if self.wrong else self._string("")
        if kind == 5:
            return [self.json(depth + 1) for _ in range(random.randint(0, 3))]
        return {self._string(""): self.json(depth + 1) for _ in range(random.randint(0, 3))}

    def _string(self, name: str) -> str:
        random = self._random
        if name in ("after", "before") and self._cursors and random.random() < 0.7:
            return random.choice(self._cursors)
        if random.random() < 0.6:
            return random.choice(["a", "b", "hostile", "RUNNING"])
        # NUL is refused wherever it stands, before anything else is looked at.
        return random.choice([text for text in TEXTS if "\0" not in text])

    def _id(self, _name: str) -> str:
        random = self._random
        return random.choice([random.choice(self._ids)] * 3 + [*self._seen][-5:] + [random.choice(UNKNOWN)])

    def _datetime(self, _name: str) -> str:
        random = self._random
        if random.random() < 0.2:
            return random.choice(INSTANTS if self.wrong else INSTANTS[:3])
        return (self._now + timedelta(seconds=random.uniform(-7200, 7200))).isoformat()

    def _int(self, _name: str) -> int:
        random = self._random
        return random.randint(0, 5) if random.random() < 0.8 else random.choice([-1, SMALLEST_INT, LARGEST_INT, 1000])

    def _float(self, name: str) -> float:
        random = self._random
        if name == "waitSeconds":
            # It would be answered, but a minute later.
            return random.choice([0, 0.01, 0.02, -1, 60.5, 1e308])
        return random.choice([60, 600, 3600, 1.5]) if random.random() < 0.8 else random.choice([0, -1, 1e308, 5e-324])

    def _boolean(self, _name: str) -> bool:
        return self._random.random() < 0.5

    def _json(self, _name: str) -> Any:
        return self.json()
