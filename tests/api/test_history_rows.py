"""What of a history can be answered without a look at each of its figures."""

from typing import Any

import pytest

from db.vocabulary import StateType
from schema.history_rows import _is_plain

PLAIN: tuple[Any, ...] = (StateType.PENDING, "Pending", (0, 1), (5, 2**31 - 1), (0.0, 1e308), (0.5, 0.0))


def test_figures_that_graphql_can_say_are_plain() -> None:
    assert _is_plain(PLAIN)


@pytest.mark.parametrize(
    ("place", "figures"),
    [
        (3, (5, 2**31)),
        (4, (0.0, float("inf"))),
        (4, (float("nan"), 0.0)),
        (5, (float("-inf"), 0.0)),
        (5, (1e308, 1e308)),
    ],
)
def test_others_are_not(place: int, figures: tuple[float, ...]) -> None:
    kind: Any = (*PLAIN[:place], figures, *PLAIN[place + 1 :])

    assert not _is_plain(kind)
