"""Readers of values that have one of several forms: unions, literals and enumerations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from runyard_client.errors import NotSerialisable
from runyard_client.values.records import RecordReader
from runyard_client.values.scalars import SCALARS
from runyard_client.values.unreadable import Unreadable

Reader = Callable[[Any], Any]


def union_reader(members: Sequence[Reader]) -> Reader:
    """Return the reader of a union: the first member that reads the value, in the order of the annotation.

    An integer is read by `int` before `float`, and an object by the first record that has all of its fields.
    """
    members = sorted(members, key=lambda member: member is SCALARS[float])

    def read(value: Any) -> Any:
        errors: list[Unreadable] = []
        for member in _by_fields(members, value) if isinstance(value, dict) else members:
            try:
                return member(value)
            except Unreadable as error:
                errors.append(error)
        raise _closest(errors)

    return read


def _by_fields(members: Sequence[Reader], value: Any) -> list[Reader]:
    return sorted(members, key=lambda each: isinstance(each, RecordReader) and not value.keys() <= each.fields.keys())


def _closest(errors: list[Unreadable]) -> Unreadable:
    """Return the error of the member that got furthest into the value, or one that lists all reasons."""
    deepest = max(errors, key=lambda error: len(error.path))
    if deepest.path or len(errors) == 1:
        return deepest
    return Unreadable(" or ".join(dict.fromkeys(error.reason.rstrip(".") for error in errors)) + ".")


def literal_reader(values: Sequence[Any], encode: Callable[[Any], Any]) -> Reader:
    """Return the reader of values that are listed, such as those of a Literal."""
    choices = [(encode(value), value) for value in values]
    allowed = ", ".join(repr(encoded) for encoded, _ in choices[:20])

    def read(value: Any) -> Any:
        for encoded, choice in choices:
            if type(encoded) is type(value) and encoded == value:
                return choice
        raise Unreadable(f"must be one of {allowed}.")

    return read


def enum_reader(cls: type[Enum], encode: Callable[[Any], Any]) -> Reader:
    """Return the reader of an enumeration, by value. Combinations of flags and `_missing_` are asked of the class."""
    try:
        listed = literal_reader(list(cls), encode)
    except NotSerialisable as error:
        raise TypeError(f"{cls.__qualname__} has values that JSON does not have: {error}") from error

    def read(value: Any) -> Any:
        try:
            return listed(value)
        except Unreadable:
            return _ask_class(cls, value)

    def _ask_class(cls: type[Enum], value: Any) -> Any:
        try:
            member = cls(value)
        except ValueError:
            return listed(value)
        if type(member.value) is not type(value):  # True is not 1
            return listed(value)
        return member

    return read
