"""Types for the tests of values. The annotations of this module are strings, as in modules of users."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Generic, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(Enum):
    RED = "red"
    BLUE = 2
    PAIR = ("a", 1)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mode(StrEnum):
    FAST = "fast"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Page:
    title: str
    number: int = 0
    at: datetime | None = None
    children: tuple[Page, ...] = ()


@dataclass
class Area:
    width: int
    height: int
    size: int = field(init=False)

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError("`width` must not be negative.")
        self.size = self.width * self.height


@dataclass
class Box(Generic[T]):
    content: T
    others: list[T]


class Address(TypedDict):
    street: str
    id: NotRequired[UUID]


class Point(NamedTuple):
    x: float
    y: float
    label: str = "here"


@dataclass
class Cat:
    name: str


@dataclass
class Dog:
    name: str
    age: int
