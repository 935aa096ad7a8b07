"""The exceptions of the client: one tree, with their facts as attributes."""

import copy
import math
import pickle

import pytest

from runyard_client import errors
from runyard_client.errors import (
    BadParameters,
    Cancelled,
    Fail,
    NotAllowed,
    NotSerialisable,
    Refused,
    RequestTooLarge,
    ResultTooLarge,
    Retry,
    RunyardError,
    ServerTooOld,
    ServerUnavailable,
    Snooze,
    TaskFailed,
)

CONTROL_FLOW = {Fail, Retry, Snooze, Cancelled}
WITH_FACTS = [
    Refused("no", code="CONFLICT", argument="input.state"),
    NotAllowed("no", code="FORBIDDEN"),
    ServerUnavailable("away", key="k", retry_after=2.5),
    ServerTooOld("leaseSignals", "0.1.0"),
    NotSerialisable("JSON has no nan.", path="pages[3].title"),
    BadParameters("must be a string.", parameter="to"),
    ResultTooLarge(5_000_000, 3_500_000),
    RequestTooLarge("too large", code="RESPONSE_TOO_LARGE"),
    TaskFailed("ValueError: no", error_type="ValueError", traceback="Traceback …", attempt=2, crashed=True, run_id="r"),
]


def test_every_error_of_the_client_is_a_runyard_error():
    classes = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}

    assert {each for each in classes if not issubclass(each, RunyardError)} == CONTROL_FLOW


@pytest.mark.parametrize("error", WITH_FACTS, ids=lambda error: type(error).__name__)
def test_errors_keep_their_facts_in_other_processes_and_copies(error):
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_messages_name_the_place_the_value_and_the_limit():
    assert str(NotSerialisable("JSON has no nan.", path="pages[3].title")) == "pages[3].title: JSON has no nan."
    assert str(BadParameters("is required and missing.", parameter="to")) == "to: is required and missing."
    assert str(ResultTooLarge(5_000_000, 3_500_000)) == (
        "The result must not exceed 3,500,000 bytes; got 5,000,000. Configure a result store."
    )


def test_the_remote_traceback_is_a_note_of_the_failure():
    error = TaskFailed("ValueError: no", traceback="Traceback (most recent call last):\n")

    assert error.__notes__ == ["Traceback of the worker:\nTraceback (most recent call last):"]


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 315_360_001])
def test_delays_out_of_the_range_of_the_server_are_refused(seconds):
    with pytest.raises(ValueError, match="`after` must be between 0 and 315,360,000 seconds; got"):
        Retry(after=seconds)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 86_401])
def test_releases_out_of_the_range_of_the_server_are_refused(seconds):
    with pytest.raises(ValueError, match="`seconds` must be between 0 and 86,400 seconds; got"):
        Snooze(seconds)


def test_control_flow_exceptions_have_their_delay():
    assert (Retry().after, Retry(30, "busy").after, str(Retry(30, "busy"))) == (0.0, 30.0, "busy")
    assert Snooze(5).seconds == 5.0
