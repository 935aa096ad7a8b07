"""Results and errors as the data of the last state: envelopes, limits, stores, and what the waiter gets."""

import hashlib
from datetime import date
from typing import Any

import orjson
import pytest

from runyard_client.app import Runyard
from runyard_client.errors import NoResult, NoRun, NotSerialisable, ResultTooLarge, RunyardError, TaskFailed
from runyard_client.results.envelope import describe_error, raise_task_failed
from runyard_client.results.file_store import FileResultStore
from runyard_client.tasks.decorator import make_task, task

LARGE = "x" * (256 * 1024)


class Away(Exception):
    """An error with a constructor of its own."""

    def __init__(self, server: str, port: int) -> None:
        super().__init__(f"{server}:{port} is down")
        self.port = port


class Unprintable(Exception):
    """An error whose text cannot be rendered."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def fetch() -> dict[str, date]:
    return {"day": date(2026, 11, 30)}


def raised(error: BaseException) -> BaseException:
    """Return the error with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


# Results


def test_a_result_is_in_an_envelope_and_comes_back():
    made = make_task(fetch)
    data = made.write_result(fetch())

    assert data == {"result": {"day": "2026-11-30"}}
    assert made.read_result(data) == {"day": date(2026, 11, 30)}


@pytest.mark.parametrize("empty", [None, [], {}, "", 0, False])
def test_the_data_of_an_empty_result_is_not_empty(empty):
    assert make_task(fetch).write_result(empty) == {"result": empty}


def test_a_discarded_result_is_not_sent():
    made = make_task(fetch, {"result": "discard"})

    assert made.write_result(object()) == {"discarded": True}
    with pytest.raises(NoResult, match="discards its results"):
        made.read_result({"discarded": True})


@pytest.mark.parametrize("data", [None, {}, [], 3, {"other": 1}])
def test_data_of_another_client_is_no_result(data):
    with pytest.raises(NoResult, match="without a result of this client"):
        make_task(fetch).read_result(data)


def test_a_result_that_json_does_not_have_is_refused_with_its_path():
    with pytest.raises(NotSerialisable, match=r"^\[1\]\.a: values of the type builtins\.object cannot be sent\.$"):
        make_task(fetch).write_result([1, {"a": object()}])


def test_a_result_above_the_limit_is_refused_without_a_store():
    made = make_task(fetch)
    largest = "x" * (3_500_000 - 2)

    assert made.write_result(largest) == {"result": largest}
    with pytest.raises(ResultTooLarge) as caught:
        made.write_result(largest + "x")
    assert (caught.value.size, caught.value.limit) == (3_500_001, 3_500_000)
    assert not made.is_retriable(caught.value)


def test_encode_and_decode_of_the_app_replace_the_conversions():
    app = Runyard(encode=lambda value: {"wrapped": str(value)}, decode=lambda value, annotation: (value, annotation))
    made = make_task(fetch, app=app)

    assert made.write_result(complex(1, 2)) == {"result": {"wrapped": "(1+2j)"}}
    assert made.read_result({"result": 1}) == (1, dict[str, date])


# Stores


def test_a_large_result_is_in_the_store_and_a_small_one_is_not(tmp_path):
    made = make_task(fetch, app=Runyard(results=FileResultStore(tmp_path)))

    assert made.write_result(LARGE[:-2], "run-1") == {"result": LARGE[:-2]}
    data = made.write_result(LARGE, "run-1")

    content = orjson.dumps(LARGE)
    [file] = tmp_path.iterdir()
    assert file.name.startswith("run-1-")
    assert file.read_bytes() == content
    assert data == {
        "stored": {
            "by": "files",
            "at": file.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    }


def test_a_stored_result_comes_back_until_it_is_deleted(tmp_path):
    store = FileResultStore(tmp_path)
    made: Any = task(result=store)(long_text)
    data = made.write_result(LARGE, "run-1")

    assert made.read_result(data) == LARGE
    store.delete(data["stored"]["at"])
    store.delete(data["stored"]["at"])
    with pytest.raises(NoResult, match="has no 'run-1-"):
        made.read_result(data)


def long_text() -> str:
    return LARGE


def test_two_results_of_one_run_do_not_replace_each_other(tmp_path):
    store = FileResultStore(tmp_path)
    first, second = store.put("run-1", b"1"), store.put("run-1", b"2")

    assert (store.get(first), store.get(second)) == (b"1", b"2")


def test_a_damaged_result_is_reported(tmp_path):
    made: Any = task(result=FileResultStore(tmp_path))(long_text)
    data = made.write_result(LARGE, "run-1")
    (tmp_path / data["stored"]["at"]).write_bytes(b'"y"')

    with pytest.raises(RunyardError, match=r"has other bytes for 'run-1-.*' than were stored"):
        made.read_result(data)


@pytest.mark.parametrize("reference", ["../secret.json", "/etc/passwd", "a/b.json", "", ".hidden.json", "a.json\n"])
def test_references_do_not_leave_the_folder(tmp_path, reference):
    store = FileResultStore(tmp_path / "results")

    with pytest.raises(LookupError, match="is not a reference of this store"):
        store.get(reference)
    with pytest.raises(LookupError, match="is not a reference of this store"):
        store.delete(reference)


def test_a_result_in_a_store_that_is_not_configured_is_reported(tmp_path):
    data = make_task(fetch, app=Runyard(results=FileResultStore(tmp_path))).write_result(LARGE, "run-1")

    with pytest.raises(NoResult, match="in the result store 'files', which is not configured here"):
        make_task(fetch).read_result(data)


def test_a_store_needs_a_run(tmp_path):
    with pytest.raises(NoRun):
        make_task(fetch, app=Runyard(results=FileResultStore(tmp_path))).write_result(LARGE)


# Errors


def test_an_error_is_described_by_its_type_first_line_and_traceback():
    message, data = describe_error(raised(Away("mail", 25)), attempt=2, worker="w", retriable=True)

    assert message == "Away: mail:25 is down"
    described = data["error"]
    assert described["traceback"].startswith("Traceback (most recent call last):\n")
    assert described["traceback"].endswith("test_results.Away: mail:25 is down\n")
    del described["traceback"]
    assert described == {
        "type": "test_results.Away",
        "message": "mail:25 is down",
        "attempt": 2,
        "worker": "w",
        "retriable": True,
    }


def test_built_in_errors_have_no_module():
    message, data = describe_error(raised(ValueError("first\nsecond")), attempt=1, worker="w", retriable=False)

    assert (message, data["error"]["type"], data["error"]["message"]) == (
        "ValueError: first",
        "ValueError",
        "first\nsecond",
    )
    assert describe_error(KeyError())[0] == "KeyError"


def test_messages_have_at_most_1000_characters():
    message, data = describe_error(ValueError("ü" * 5_000))

    assert message == "ValueError: " + "ü" * 987 + "…"
    assert data["error"]["message"] == "ü" * 999 + "…"


def test_tracebacks_have_at_most_16_kib_with_the_middle_cut_out():
    _, data = describe_error(raised(ValueError("ü" * 50_000)))

    traceback = data["error"]["traceback"]
    assert len(traceback.encode()) <= 16 * 1024
    assert len(traceback.encode()) > 15 * 1024
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert " bytes omitted …\n" in traceback


def test_an_error_that_cannot_be_rendered_is_reported_with_its_type():
    message, data = describe_error(raised(Unprintable()))

    assert message == "Unprintable: (its text cannot be rendered)"
    assert data["error"]["type"] == "test_results.Unprintable"
    assert "in raised" in data["error"]["traceback"]


def test_text_that_the_server_does_not_accept_is_escaped():
    message, data = describe_error(raised(ValueError("a\0b\ud800")))

    assert message == "ValueError: a\\x00b\\ud800"
    assert "\0" not in orjson.loads(orjson.dumps(data))["error"]["traceback"]


def failed(error: BaseException) -> dict[str, Any]:
    message, data = describe_error(raised(error), attempt=3, worker="w", retriable=False)
    return {"type": "FAILED", "name": "Failed", "message": message, "data": orjson.loads(orjson.dumps(data))}


def test_the_waiter_gets_the_error_with_its_facts_and_its_traceback():
    with pytest.raises(TaskFailed) as caught:
        raise_task_failed(failed(Away("mail", 25)), make_task(fetch), "run-1")

    error = caught.value
    assert str(error) == error.message == "Away: mail:25 is down"
    facts = (
        error.error_type,
        error.error_message,
        error.attempt,
        error.worker,
        error.retriable,
        error.crashed,
        error.run_id,
    )
    assert facts == ("test_results.Away", "mail:25 is down", 3, "w", False, False, "run-1")
    assert error.__notes__[0].startswith("Traceback of the worker:\nTraceback (most recent call last):\n")


def test_the_waiter_gets_the_original_class_if_the_task_lists_it():
    with pytest.raises(Away, match=r"^mail:25 is down") as caught:
        raise_task_failed(failed(Away("mail", 25)), make_task(fetch, {"raises": (Away,)}), "run-1")

    assert caught.value.args == ("mail:25 is down",)
    assert isinstance(caught.value.__cause__, TaskFailed)
    assert caught.value.__notes__[0].startswith("Traceback of the worker:")


def test_a_class_that_is_not_listed_is_never_made():
    class Other(Exception):
        pass

    with pytest.raises(TaskFailed):
        raise_task_failed(failed(Other("no")), make_task(fetch, {"raises": (Away, Exception)}))


@pytest.mark.parametrize("data", [None, [], {"error": "text"}, {"error": None}, 3])
def test_a_failure_that_another_client_wrote_is_raised_too(data):
    state = {"type": "CRASHED", "name": "WorkerLost", "message": None, "data": data}

    with pytest.raises(TaskFailed, match=r"^WorkerLost$") as caught:
        raise_task_failed(state, None)

    assert caught.value.crashed
    assert caught.value.error_type is None
