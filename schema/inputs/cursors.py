"""Cursors: places that a client gets, keeps and hands back, and never looks into. Each begins with its version."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson


def write_cursor(content: Sequence[Any]) -> str:
    """The cursor that says this."""
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def content_of(cursor: str) -> Any:
    """What a cursor says; None where it is none."""
    try:
        return orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
