"""Generated times, for property tests."""

from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))

DATETIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS)  # noqa: DTZ001 - hypothesis requires naive bounds
"""Times with any offset. In UTC, all of them are within the calendar."""
