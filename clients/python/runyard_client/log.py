"""Log records with the run that they belong to, the log lines of each run, and the formats of the worker's own handler."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

from runyard_client.context import Run, current_run

FIELDS = ("run_id", "run_name", "task_key", "run_count")

logger = logging.getLogger("runyard_client.worker")


class RunFilter(logging.Filter):
    """Adds `run_id`, `run_name`, `task_key` and `run_count` to every record; they are None outside of a run.

    Add it to handlers: `{"filters": {"run": {"()": "runyard_client.log.RunFilter"}}}` in a `dictConfig`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "run_id"):
            record.__dict__.update(run_fields(current_run(None)))
        return True


def run_fields(run: Run | None) -> dict[str, Any]:
    """Return the fields that log records of this run have."""
    if run is None:
        return dict.fromkeys(FIELDS)
    return {"run_id": run.id, "run_name": run.name, "task_key": run.key, "run_count": run.run_count}


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name in FIELDS if (value := getattr(record, name, None)) is not None})
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """Formats a record for people; records of a run end with the run's name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        name = getattr(record, "run_name", None)
        return f"{text} [{name}]" if name and record.name != logger.name else text


def make_formatter(log_format: str, *, is_terminal: bool) -> logging.Formatter:
    """Return the formatter for `console`, `json`, or `auto`: `console` on a terminal and `json` otherwise."""
    if log_format == "auto":
        log_format = "console" if is_terminal else "json"
    return JSONFormatter() if log_format == "json" else ConsoleFormatter()


def install_logging(log_format: str = "auto", root: logging.Logger | None = None) -> None:
    """Add the run's fields to the records of all handlers of the root logger.

    If it has none, add a handler that writes to stderr, and log this package from INFO on. Nothing else is configured.
    """
    root = root or logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(make_formatter(log_format, is_terminal=sys.stderr.isatty()))
        root.addHandler(handler)
        package = logging.getLogger("runyard_client")
        if package.level == logging.NOTSET:
            package.setLevel(logging.INFO)
    for each in root.handlers:
        if not any(isinstance(found, RunFilter) for found in each.filters):
            each.addFilter(RunFilter())


def log_begin(run: Run) -> None:
    """Log that the execution of a run begins."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s began: %s, attempt %d", run.name, run.key, run.run_count, extra=run_fields(run))


def log_end(run: Run, outcome: str, seconds: float) -> None:
    """Log how the execution of a run has ended, such as `COMPLETED`."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s ended: %s in %.3f s", run.name, outcome, seconds, extra=run_fields(run))
