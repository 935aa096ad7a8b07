"""Tables of transitions: a row for each state that a run leaves, a column for each state that it enters."""

import pytest

from db.enums import StateType

FORCED = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    none          A        A       A        A        A       A        A       A        A
    SCHEDULED     A        A       A        A        A       A        A       A        A
    PENDING       A        A       A        A        A       A        A       A        A
    RUNNING       A        A       A        A        A       A        A       A        A
    COMPLETED     A        A       A        A        A       A        A       A        A
    FAILED        A        A       A        A        A       A        A       A        A
    CANCELLED     A        A       A        A        A       A        A       A        A
    CRASHED       A        A       A        A        A       A        A       A        A
    PAUSED        A        A       A        A        A       A        A       A        A
    CANCELLING    A        A       A        A        A       A        A       A        A
"""
"""The transitions of any run by force: all are accepted as proposed."""


def cells(table: str) -> list[object]:
    """Return a test case for each cell: the state left, the state entered and the outcome."""
    heading, *rows = (line.split() for line in table.strip().splitlines())
    return [
        pytest.param(
            None if leaving == "none" else StateType(leaving),
            StateType(entering),
            outcome,
            id=f"{leaving}-{entering}",
        )
        for leaving, *row in rows
        for entering, outcome in zip(heading, row, strict=True)
    ]


def assert_every_pair(table: str) -> None:
    """Check that the table has a cell for every pair of states, and for runs without a state."""
    rows = [line.split() for line in table.strip().splitlines()]

    assert rows[0] == list(StateType)
    assert [row[0] for row in rows[1:]] == ["none", *StateType]
