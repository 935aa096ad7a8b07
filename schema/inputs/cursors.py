"""Encoding of cursors: positions in an opaque form that clients receive and send back. Each contains its version."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson


def encode_cursor(content: Sequence[Any]) -> str:
    """Encode a list of JSON values as a cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def decode_cursor(cursor: str) -> Any:
    """Decode a cursor. Returns None when it is invalid; callers check the content."""
    try:
        return orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
