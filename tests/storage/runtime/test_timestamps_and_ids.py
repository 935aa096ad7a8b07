"""Timestamps and ids: their text sorts in chronological order."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.runtime import ids
from db.runtime.ids import canonical_id, new_id
from db.runtime.timestamps import (
    epoch_microseconds,
    format_timestamp,
    parse_timestamp,
    seconds_after,
    seconds_between,
    timestamps_from,
)
from tests.builders.timestamps import DATETIMES

NOW = "2030-01-01T12:00:00.000000Z"
ID = "01a206b2-304f-7000-b2ee-99ddb7de4877"


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2030, 1, 1, 12, tzinfo=UTC), "2030-01-01T12:00:00.000000Z"),
        (datetime(2030, 1, 1, 12, 0, 0, 1, tzinfo=UTC), "2030-01-01T12:00:00.000001Z"),
        (datetime(2030, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC), "2030-01-01T12:00:00.500000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (datetime(2030, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2029-12-31T23:30:00.000000Z"),
        (datetime(2030, 1, 1, 20, tzinfo=timezone(-timedelta(hours=5, minutes=30))), "2030-01-02T01:30:00.000000Z"),
    ],
)
def test_a_timestamp_is_formatted_in_utc_with_microseconds(when: datetime, text: str) -> None:
    assert format_timestamp(when) == text


@given(DATETIMES)
def test_every_timestamp_has_the_same_length_and_parses_to_the_same_time(when: datetime) -> None:
    text = format_timestamp(when)

    assert len(text) == 27
    assert parse_timestamp(text) == when
    assert parse_timestamp(text).utcoffset() == timedelta(0)


@given(st.lists(DATETIMES))
def test_timestamps_sort_as_text_in_chronological_order(moments: list[datetime]) -> None:
    assert sorted(map(format_timestamp, moments)) == [format_timestamp(each) for each in sorted(moments)]


def test_a_whole_second_sorts_between_its_neighbours() -> None:
    second = datetime(2030, 1, 1, 12, tzinfo=UTC)
    microsecond = timedelta(microseconds=1)

    texts = [format_timestamp(each) for each in (second - microsecond, second, second + microsecond)]

    assert texts == sorted(texts)


@given(DATETIMES, DATETIMES)
def test_seconds_between_is_negative_when_the_later_timestamp_comes_first(one: datetime, other: datetime) -> None:
    seconds = seconds_between(format_timestamp(one), format_timestamp(other))

    assert seconds == (other - one).total_seconds()
    assert seconds_between(format_timestamp(other), format_timestamp(one)) == -seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "2030-01-01T12:00:00.000000Z"),
        (90.5, "2030-01-01T12:01:30.500000Z"),
        (-1e-6, "2030-01-01T11:59:59.999999Z"),
        (1e12, "9999-12-31T23:59:59.999999Z"),
        (1e300, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_adding_seconds_is_capped_at_the_last_timestamp(seconds: float, text: str) -> None:
    assert seconds_after("2030-01-01T12:00:00.000000Z", seconds) == text


@given(DATETIMES, st.integers(1, 10**6), st.integers(1, 5))
def test_equally_spaced_timestamps_are_exact_to_the_microsecond(when: datetime, step: int, count: int) -> None:
    found = timestamps_from(format_timestamp(when), step, count)

    assert found == [format_timestamp(when + timedelta(microseconds=number * step)) for number in range(count)]
    assert [epoch_microseconds(each) - epoch_microseconds(found[0]) for each in found] == [
        n * step for n in range(count)
    ]


@pytest.mark.parametrize("step", [2, 10**6, 10**18])
def test_timestamps_beyond_the_calendar_are_capped_at_the_last_one(step: int) -> None:
    last = "9999-12-31T23:59:59.999999Z"

    assert timestamps_from("9999-12-31T23:59:59.999998Z", step, 3) == ["9999-12-31T23:59:59.999998Z", last, last]
    assert timestamps_from("9999-12-31T23:59:59.999998Z", 1, 3) == ["9999-12-31T23:59:59.999998Z", last, last]


def test_epoch_microseconds_are_counted_from_1970() -> None:
    assert epoch_microseconds("1970-01-01T00:00:00.000001Z") == 1


@pytest.fixture
def no_earlier_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of this test do not follow those of earlier tests, or those of later tests its ids."""
    monkeypatch.setattr(ids, "_last", 0)


@pytest.mark.usefixtures("no_earlier_ids")
def test_an_id_is_a_uuid_version_7_that_starts_with_the_time() -> None:
    generated = new_id("2030-01-01T12:00:00.123456Z")

    value = uuid.UUID(generated)
    assert generated == str(value)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == epoch_microseconds("2030-01-01T12:00:00.123456Z") // 1000


@pytest.mark.usefixtures("no_earlier_ids")
def test_ids_increase_after_the_clock_is_set_back() -> None:
    earlier = new_id("2030-01-01T12:00:00.000000Z")

    later = new_id("2030-01-01T11:00:00.000000Z")

    assert later > earlier


def test_each_id_is_greater_than_the_one_before_even_within_a_millisecond() -> None:
    generated = [new_id(NOW) for _ in range(20_000)]

    assert generated == sorted(set(generated))


def test_an_id_can_be_generated_after_one_of_another_server() -> None:
    ahead = f"{(time.time_ns() // 1_000_000 + 200) << 16 | 0x7FFF:016x}"
    known = f"{ahead[:8]}-{ahead[8:12]}-{ahead[12:]}-bfff-ffffffffffff"

    generated = new_id(NOW, after=known)

    assert generated > known
    assert (uuid.UUID(generated).version, uuid.UUID(generated).variant) == (7, uuid.RFC_4122)
    assert new_id(NOW) > generated


def test_concurrent_threads_generate_increasing_and_unique_ids() -> None:
    with ThreadPoolExecutor(8) as threads:
        generated = list(threads.map(lambda _: [new_id(NOW) for _ in range(2_000)], range(8)))

    assert all(each == sorted(each) for each in generated)
    assert len({id for each in generated for id in each}) == 16_000


@pytest.mark.parametrize(
    "text",
    [ID, ID.upper(), ID.replace("-", ""), "{" + ID + "}", f"urn:uuid:{ID}", f"urn:uuid:{ID.upper()}"],
)
def test_every_uuid_format_is_accepted_and_stored_canonically(text: str) -> None:
    assert canonical_id(text) == ID


@given(st.uuids())
def test_every_canonical_uuid_is_accepted_unchanged(value: uuid.UUID) -> None:
    assert canonical_id(str(value)) == str(value)


@pytest.mark.parametrize("text", ["", "1", "nonsense", ID[:-1], ID + "0", ID[:-1] + "g", "{}", "urn:uuid:", ID + ID])
def test_text_that_is_not_a_uuid_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|invalid literal"):
        canonical_id(text)


@pytest.mark.parametrize(
    "text", [" " + ID[1:-1] + " ", "+" + ID[1:], "0x" + ID[2:], "\N{ARABIC-INDIC DIGIT TWO}" + ID[1:]]
)
def test_number_formats_specific_to_python_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        canonical_id(text)
