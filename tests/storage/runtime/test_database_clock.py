"""The database clock: servers on one PostgreSQL database share its time, whatever their machines' clocks say."""

from datetime import UTC, datetime, timedelta

from db.postgresql.database_clock import FOLLOW_STEP_AFTER_SECONDS, DatabaseClock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRECISE = 0.001


class Elapsed:
    """A clock of the machine that measures durations."""

    def __init__(self) -> None:
        self.seconds = 5000.0

    def __call__(self) -> float:
        return self.seconds


class ReadClock:
    """A database clock, read once at noon, and the database and machine that it depends on."""

    def __init__(self) -> None:
        self.elapsed = Elapsed()
        self.clock = DatabaseClock(self.elapsed)
        self.database_offset = timedelta(0)
        """How far the database's clock was set ahead."""
        self.steps: list[datetime] = []
        self.clock.on_step(lambda: self.steps.append(self.clock.now()))
        self.read()

    def true_time(self) -> datetime:
        return NOON + timedelta(seconds=self.elapsed.seconds - 5000)

    def read(self, error: float = PRECISE) -> None:
        self.clock.set(self.true_time() + self.database_offset, self.elapsed.seconds, error)

    def pass_time(self, seconds: float, *, reading_every: float = 10.0) -> None:
        for _ in range(round(seconds / reading_every)):
            self.elapsed.seconds += reading_every
            self.read()


def test_the_first_reading_sets_the_time_and_the_elapsed_time_continues_it() -> None:
    read = ReadClock()

    read.elapsed.seconds += 7.5

    assert read.clock.now() == NOON + timedelta(seconds=7.5)


def test_a_reading_counts_from_the_time_at_which_it_was_taken() -> None:
    elapsed = Elapsed()
    clock = DatabaseClock(elapsed)

    clock.set(NOON, elapsed.seconds - 0.5, PRECISE)

    assert clock.now() == NOON + timedelta(seconds=0.5)


def test_a_less_precise_reading_changes_nothing() -> None:
    read = ReadClock()
    read.database_offset = timedelta(seconds=1)

    read.read(error=0.5)

    assert read.clock.now() == NOON


def test_the_next_reading_after_a_reconnect_may_be_less_precise() -> None:
    read = ReadClock()
    read.database_offset = timedelta(seconds=1)

    read.clock.accept_next_reading()
    read.read(error=0.5)

    assert read.clock.now() == NOON + timedelta(seconds=1)


def test_a_clock_that_is_ahead_runs_at_half_speed_and_never_back() -> None:
    read = ReadClock()
    read.database_offset = timedelta(seconds=-1)
    read.read()

    times: list[datetime] = []
    for _ in range(4):
        times.append(read.clock.now())
        read.elapsed.seconds += 1

    assert times == [NOON + timedelta(seconds=each) for each in (0, 0.5, 1, 2)]


def test_readings_while_the_clock_runs_at_half_speed_never_set_it_back() -> None:
    read = ReadClock()
    read.database_offset = timedelta(seconds=-1.5)
    times: list[datetime] = []
    for _ in range(40):
        read.read()
        read.clock.accept_next_reading()
        times.append(read.clock.now())
        read.elapsed.seconds += 0.1

    assert times == sorted(set(times))
    assert read.clock.now() == read.true_time() + read.database_offset


def test_a_step_of_twenty_seconds_ahead_and_back_is_not_followed() -> None:
    read = ReadClock()
    read.pass_time(10)
    read.database_offset = HOUR
    read.pass_time(20)
    during = read.clock.now()
    read.database_offset = timedelta(0)
    read.pass_time(10)

    assert during == NOON + timedelta(seconds=30)
    assert read.clock.now() == NOON + timedelta(seconds=40)
    assert read.steps == []


def test_a_reconnect_during_a_step_does_not_follow_it() -> None:
    read = ReadClock()
    read.database_offset = HOUR

    read.clock.accept_next_reading()
    read.pass_time(20)

    assert read.clock.now() == NOON + timedelta(seconds=20)


def test_a_step_ahead_is_followed_when_it_has_lasted() -> None:
    read = ReadClock()
    read.database_offset = HOUR
    read.pass_time(FOLLOW_STEP_AFTER_SECONDS)
    before = read.clock.now()
    read.pass_time(10)

    assert before == NOON + timedelta(seconds=60)
    assert read.clock.now() == NOON + HOUR + timedelta(seconds=70)
    assert read.steps == [NOON + timedelta(seconds=70)]


def test_a_step_is_followed_at_once_when_another_server_follows_it() -> None:
    read = ReadClock()
    read.database_offset = HOUR
    read.pass_time(10)

    read.clock.follow_next_step()
    read.pass_time(10)

    assert read.clock.now() == NOON + HOUR + timedelta(seconds=20)
    assert read.steps == [NOON + timedelta(seconds=20)]


def test_a_step_that_another_server_followed_earlier_has_no_effect_on_later_ones() -> None:
    read = ReadClock()
    read.clock.follow_next_step()
    read.pass_time(10)

    read.database_offset = HOUR
    read.pass_time(20)

    assert read.clock.now() == NOON + timedelta(seconds=30)


def test_a_second_step_starts_the_waiting_time_again() -> None:
    read = ReadClock()
    read.database_offset = HOUR
    read.pass_time(50)
    read.database_offset = 2 * HOUR
    read.pass_time(FOLLOW_STEP_AFTER_SECONDS)

    assert read.clock.now() == NOON + timedelta(seconds=110)

    read.pass_time(10)

    assert read.clock.now() == NOON + 2 * HOUR + timedelta(seconds=120)


def test_a_step_back_that_lasts_is_reached_at_half_speed() -> None:
    read = ReadClock()
    read.database_offset = timedelta(seconds=-100)
    read.pass_time(FOLLOW_STEP_AFTER_SECONDS + 10)
    followed = read.clock.now()
    read.pass_time(100)
    during = read.clock.now()
    read.pass_time(200)

    assert followed == NOON + timedelta(seconds=70)
    assert during == followed + timedelta(seconds=50)
    assert read.clock.now() == read.true_time() - timedelta(seconds=100)
