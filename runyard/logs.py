"""Log formats: plain text on a terminal, one JSON object per line elsewhere. Each line has the id of its request."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from db.runtime.timestamps import format_timestamp

LogFormat = Literal["auto", "console", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the current request; None outside of requests."""


class ConsoleFormatter(logging.Formatter):
    """Formats a line as time, level, logger and message, followed by the request id if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return line if (id := request_id.get()) is None else f"{line} [{id}]"


class JSONFormatter(logging.Formatter):
    """Formats a line as a JSON object with `time`, `level`, `logger` and `message`.

    Lines of a request have its `request_id`, and lines with an exception have its traceback as `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": format_timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (id := request_id.get()) is not None:
            line["request_id"] = id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Lone surrogates cannot be encoded; without the replacement, the whole line would be lost.
        return orjson.dumps({name: value.encode(errors="replace").decode() for name, value in line.items()}).decode()


def configure_logging(level: str, format: LogFormat, stream: TextIO = sys.stderr) -> bool:
    """Write log lines of `level` and above to `stream`. Return whether they are plain text."""
    is_console = stream.isatty() if format == "auto" else format == "console"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter() if is_console else JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return is_console
