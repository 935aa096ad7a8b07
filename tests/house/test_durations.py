"""Durations are read as people write them."""

from datetime import timedelta

import pytest

from runyard.durations import read_duration


@pytest.mark.parametrize(
    ("text", "meant"),
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
def test_it_is_what_it_says(text: str, meant: timedelta) -> None:
    assert read_duration(text) == meant


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0d", "-3d", "P", "PT0S", "soon", "2020-01-01", "9999999d", "99999999999999999999d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' "):
        read_duration(text)
