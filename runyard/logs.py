"""How the log is written: a line for people on a terminal, a JSON object a line otherwise; each with its request's id."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from db.runtime.timestamps import instant

LogFormat = Literal["auto", "console", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being answered; None in what the server does of itself."""


class ConsoleFormatter(logging.Formatter):
    """The time, how grave it is, who says it, what; and at the end of a request's line its id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return line if (id := request_id.get()) is None else f"{line} [{id}]"


class JSONFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, and where there is one `request_id` and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": instant(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (id := request_id.get()) is not None:
            line["request_id"] = id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What is no text by Unicode is replaced rather than lost with its line.
        return orjson.dumps({name: value.encode(errors="replace").decode() for name, value in line.items()}).decode()


def set_up_logs(level: str, format: LogFormat, stream: TextIO = sys.stderr) -> bool:
    """Write what is logged from `level` up to `stream`; whether it is written for people."""
    for_people = stream.isatty() if format == "auto" else format == "console"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter() if for_people else JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return for_people
