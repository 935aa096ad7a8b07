"""Retry policies: the delays of `exponential`, the input of the server, and the limits."""

import math

import pytest

from runyard_client.tasks.retries import RetryPolicy, exponential, make_retry_policy


def test_exponential_multiplies_each_delay_by_the_factor():
    assert exponential(2, count=5) == [2, 4, 8, 16, 32]
    assert exponential(1, factor=10, count=3) == [1, 10, 100]


def test_exponential_ends_with_the_largest_delay():
    assert exponential(2, max_delay=30) == [2, 4, 8, 16, 30]
    assert exponential(2, max_delay=16) == [2, 4, 8, 16]
    assert exponential(60, max_delay=30) == [30]


def test_exponential_has_at_most_fifty_delays():
    assert len(exponential(1, factor=1.1)) == 50
    assert exponential(1, factor=1)[-1] == 1


def test_exponential_never_overflows():
    assert exponential(1, factor=1e300, max_delay=60) == [1, 60]
    with pytest.raises(ValueError, match="`max_delay` is required"):
        exponential(1.5, factor=1e300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": -1}, "`first` must be a finite number of at least 0; got -1"),
        ({"first": 1, "factor": 0.5}, "`factor` must be a finite number of at least 1; got 0.5"),
        ({"first": 1, "max_delay": math.nan}, "`max_delay` must be a finite number of at least 0; got nan"),
        ({"first": 1, "count": 51}, "`count` must be between 1 and 50; got 51"),
    ],
)
def test_exponential_refuses_invalid_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        exponential(**arguments)


def test_a_policy_without_retries_has_no_input():
    assert RetryPolicy().as_input() is None


def test_a_policy_is_sent_as_the_server_names_it():
    assert RetryPolicy(3, (1.0, 2.5), 0.3).as_input() == {
        "retries": 3,
        "retryDelaySeconds": [1.0, 2.5],
        "retryJitterFactor": 0.3,
    }
    assert RetryPolicy(3).as_input() == {"retries": 3}


def test_one_number_is_the_delay_of_all_retries():
    assert make_retry_policy(2, 5, 0) == RetryPolicy(2, (5.0,), 0.0)


@pytest.mark.parametrize(
    ("retries", "delays", "jitter", "error", "message"),
    [
        (-1, None, 0, ValueError, "`retries` must be between 0 and 2,147,483,647; got -1"),
        (2**31, None, 0, ValueError, "`retries` must be between 0 and 2,147,483,647; got 2147483648"),
        (1.5, None, 0, TypeError, "`retries` must be an integer; got 1.5"),
        (True, None, 0, TypeError, "`retries` must be an integer; got True"),
        (1, [1] * 51, 0, ValueError, "`retry_delays` must have at most 50 items; got 51"),
        (1, [1, -2], 0, ValueError, r"`retry_delays\[1\]` must be a finite number of at least 0; got -2"),
        (1, "5", 0, TypeError, r"`retry_delays\[0\]` must be a number; got '5'"),
        (1, None, -0.1, ValueError, "`jitter` must be a finite number of at least 0; got -0.1"),
    ],
)
def test_invalid_policies_are_refused_with_option_value_and_limit(retries, delays, jitter, error, message):
    with pytest.raises(error, match=message):
        make_retry_policy(retries, delays, jitter)
