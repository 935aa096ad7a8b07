"""How instants and ids are written: text that sorts as it was made."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.runtime.ids import canonical_id, new_id
from db.runtime.timestamps import instant, instants_from, microseconds_at, moment, seconds_after, seconds_between

OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS)  # noqa: DTZ001 - hypothesis wants them so

ID = "01a206b2-304f-7000-b2ee-99ddb7de4877"


# --- instants ---


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
def test_an_instant_is_written_in_utc_with_microseconds(when: datetime, text: str) -> None:
    assert instant(when) == text


@given(MOMENTS)
def test_every_instant_has_the_same_width_and_reads_back_as_the_same_moment(when: datetime) -> None:
    text = instant(when)

    assert len(text) == 27
    assert moment(text) == when
    assert moment(text).utcoffset() == timedelta(0)


@given(st.lists(MOMENTS))
def test_instants_sort_as_text_as_their_moments_do_in_time(moments: list[datetime]) -> None:
    assert sorted(map(instant, moments)) == [instant(each) for each in sorted(moments)]


def test_a_whole_second_sorts_between_its_neighbours() -> None:
    second = datetime(2030, 1, 1, 12, tzinfo=UTC)
    microsecond = timedelta(microseconds=1)

    texts = [instant(each) for each in (second - microsecond, second, second + microsecond)]

    assert texts == sorted(texts)


@given(MOMENTS, MOMENTS)
def test_the_seconds_between_two_instants_are_negative_where_the_later_is_named_first(
    one: datetime, other: datetime
) -> None:
    seconds = seconds_between(instant(one), instant(other))

    assert seconds == (other - one).total_seconds()
    assert seconds_between(instant(other), instant(one)) == -seconds


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
def test_an_instant_so_many_seconds_later_ends_with_the_calendar(seconds: float, text: str) -> None:
    assert seconds_after("2030-01-01T12:00:00.000000Z", seconds) == text


@given(MOMENTS, st.integers(1, 10**6), st.integers(1, 5))
def test_instants_at_equal_distances_are_exact_to_the_microsecond(when: datetime, step: int, count: int) -> None:
    found = instants_from(instant(when), step, count)

    assert found == [instant(when + timedelta(microseconds=number * step)) for number in range(count)]
    assert [microseconds_at(each) - microseconds_at(found[0]) for each in found] == [n * step for n in range(count)]


@pytest.mark.parametrize("step", [2, 10**6, 10**18])
def test_instants_beyond_the_calendar_are_its_last_one(step: int) -> None:
    last = "9999-12-31T23:59:59.999999Z"

    assert instants_from("9999-12-31T23:59:59.999998Z", step, 3) == ["9999-12-31T23:59:59.999998Z", last, last]
    assert instants_from("9999-12-31T23:59:59.999998Z", 1, 3) == ["9999-12-31T23:59:59.999998Z", last, last]


def test_microseconds_are_counted_from_the_beginning_of_1970() -> None:
    assert microseconds_at("1970-01-01T00:00:00.000001Z") == 1


# --- ids ---


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    before = datetime.now(UTC)

    made = new_id()

    value = uuid.UUID(made)
    made_at = datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    assert made == str(value)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    # Ids made within one millisecond borrow from the next one.
    assert before - timedelta(milliseconds=1) <= made_at <= datetime.now(UTC) + timedelta(seconds=1)


def test_each_id_is_greater_than_the_one_before_even_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(set(ids))


def test_an_id_may_be_made_after_one_that_another_server_has_made() -> None:
    ahead = f"{(time.time_ns() // 1_000_000 + 200) << 16 | 0x7FFF:016x}"
    known = f"{ahead[:8]}-{ahead[8:12]}-{ahead[12:]}-bfff-ffffffffffff"

    made = new_id(after=known)

    assert made > known
    assert (uuid.UUID(made).version, uuid.UUID(made).variant) == (7, uuid.RFC_4122)
    assert new_id() > made


def test_threads_that_make_ids_at_once_each_make_rising_ones_and_none_twice() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_id() for _ in range(2_000)], range(8)))

    assert all(ids == sorted(ids) for ids in made)
    assert len({id for ids in made for id in ids}) == 16_000


@pytest.mark.parametrize(
    "text",
    [ID, ID.upper(), ID.replace("-", ""), "{" + ID + "}", f"urn:uuid:{ID}", f"urn:uuid:{ID.upper()}"],
)
def test_an_id_may_be_written_in_every_form_of_a_uuid_and_is_stored_in_one(text: str) -> None:
    assert canonical_id(text) == ID


@given(st.uuids())
def test_every_uuid_is_an_id_as_it_is(value: uuid.UUID) -> None:
    assert canonical_id(str(value)) == str(value)


@pytest.mark.parametrize("text", ["", "1", "nonsense", ID[:-1], ID + "0", ID[:-1] + "g", "{}", "urn:uuid:", ID + ID])
def test_what_is_no_uuid_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|invalid literal"):
        canonical_id(text)


@pytest.mark.parametrize(
    "text", [" " + ID[1:-1] + " ", "+" + ID[1:], "0x" + ID[2:], "\N{ARABIC-INDIC DIGIT TWO}" + ID[1:]]
)
def test_what_python_alone_takes_for_a_number_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        canonical_id(text)
