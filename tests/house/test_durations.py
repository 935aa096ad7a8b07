"""Durations: the formats that settings and options accept."""

from datetime import timedelta

import pytest

from runyard.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90 min", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("2W", timedelta(weeks=2)),
        ("45s", timedelta(seconds=45)),
        ("P30D", timedelta(days=30)),
        ("PT12H", timedelta(hours=12)),
        ("P1DT2H", timedelta(hours=26)),
        ("P1M", timedelta(days=30)),
    ],
)
def test_a_duration_is_parsed(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0d", "-3d", "P", "PT0S", "soon", "2020-01-01", "9999999d", "99999999999999999999d"]
)
def test_text_that_is_not_a_duration_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' "):
        parse_duration(text)
