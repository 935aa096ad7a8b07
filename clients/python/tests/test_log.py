"""Log records of runs: their fields, their formats, and the lines of the worker."""

import json
import logging

import pytest

from executing import executing, make_app
from runyard_client.context import Run, use_run
from runyard_client.log import ConsoleFormatter, JSONFormatter, RunFilter, install_logging, make_formatter

RUN = Run("b2f7", name="amber-otter", key="send-mail", run_count=2)
FIELDS = {"run_id": "b2f7", "run_name": "amber-otter", "task_key": "send-mail", "run_count": 2}

app = make_app()


@app.task(key="send-mail")
async def send_mail():
    logging.getLogger("user").warning("sending")


@app.task(key="fail")
def fail():
    raise ValueError("wrong")


def make_record(message: str = "sending %s", *arguments: object, name: str = "user") -> logging.LogRecord:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments or ("mail",), None)
    record.created = 1_796_040_000.5
    return record


@pytest.fixture
def root(monkeypatch):
    """A root logger without handlers, since those of pytest are at the real one."""
    monkeypatch.setattr(logging.getLogger("runyard_client"), "level", logging.NOTSET)
    return logging.RootLogger(logging.WARNING)


def test_the_filter_adds_the_fields_of_the_run():
    record = make_record()

    with use_run(RUN):
        assert RunFilter().filter(record)

    assert {name: getattr(record, name) for name in FIELDS} == FIELDS


def test_the_filter_keeps_fields_that_a_record_has():
    record = make_record()
    record.run_id = "other"

    with use_run(RUN):
        RunFilter().filter(record)

    assert record.run_id == "other"


def test_a_json_line_has_the_message_and_the_run():
    record = make_record()
    with use_run(RUN):
        RunFilter().filter(record)

    line = json.loads(JSONFormatter().format(record))

    time = line.pop("time")
    assert time == "2026-11-30T12:00:00.500+00:00"
    assert line == {"level": "WARNING", "logger": "user", "message": "sending mail", **FIELDS}


def test_a_json_line_outside_of_a_run_has_no_run():
    record = make_record()
    RunFilter().filter(record)

    assert set(json.loads(JSONFormatter().format(record))) == {"time", "level", "logger", "message"}


def test_a_json_line_has_the_traceback():
    try:
        raise ValueError("wrong")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "text", None, (ValueError, error, error.__traceback__)
        )

    assert "ValueError: wrong" in json.loads(JSONFormatter().format(record))["exception"]


def test_a_console_line_ends_with_the_name_of_the_run():
    record = make_record()
    with use_run(RUN):
        RunFilter().filter(record)

    assert ConsoleFormatter().format(record).endswith(" WARNING user: sending mail [amber-otter]")


def test_auto_is_for_people_on_a_terminal_and_json_otherwise():
    assert isinstance(make_formatter("auto", is_terminal=True), ConsoleFormatter)
    assert isinstance(make_formatter("auto", is_terminal=False), JSONFormatter)
    assert isinstance(make_formatter("json", is_terminal=True), JSONFormatter)
    assert isinstance(make_formatter("console", is_terminal=False), ConsoleFormatter)


def test_a_handler_is_added_only_to_a_logger_without_one(root):
    install_logging("json", root)
    install_logging("json", root)

    assert [type(each.formatter) for each in root.handlers] == [JSONFormatter]
    assert [type(each) for each in root.handlers[0].filters] == [RunFilter]
    assert logging.getLogger("runyard_client").level == logging.INFO


def test_handlers_of_the_user_get_the_fields_and_keep_their_format(root):
    handler = logging.NullHandler()
    formatter = logging.Formatter("%(message)s")
    handler.setFormatter(formatter)
    root.addHandler(handler)

    install_logging("json", root)

    assert root.handlers == [handler]
    assert handler.formatter is formatter
    assert [type(each) for each in handler.filters] == [RunFilter]
    assert logging.getLogger("runyard_client").level == logging.NOTSET


async def test_begin_and_end_of_a_run_are_one_line_each(caplog):
    caplog.handler.addFilter(RunFilter())
    with caplog.at_level(logging.INFO, "runyard_client.worker"):
        async with executing(app) as peer:
            lease = peer.start("send-mail", run_count=3)
            await peer.outcome(lease)

    lines = [(each.name, each.getMessage().rpartition(" in ")[0] or each.getMessage()) for each in caplog.records]
    assert lines == [
        ("runyard_client.worker", f"name-of-{lease} began: send-mail, attempt 3"),
        ("user", "sending"),
        ("runyard_client.worker", f"name-of-{lease} ended: COMPLETED"),
    ]
    assert {each.run_id for each in caplog.records} == {f"run-of-{lease}"}


async def test_parameters_and_results_are_not_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        async with executing(app) as peer:
            await peer.execute("fail", {"secret": "password"})
            await peer.execute("fail")

    assert "password" not in caplog.text
    assert "ended: FAILED (ValueError) in " in caplog.text
