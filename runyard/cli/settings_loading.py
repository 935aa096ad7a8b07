"""Reads the settings for a command, and names variables that are not settings."""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard.settings import Settings

PREFIX = "RUNYARD_"


def load_settings(**overrides: object) -> "Settings":
    """Return the settings. Options that are not None override variables. Exits with a message when one is invalid."""
    from pydantic import ValidationError  # noqa: PLC0415

    from runyard.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})  # pyright: ignore
        _ = settings.database, settings.listen_database
    except ValidationError as error:
        sys.exit("runyard: " + "\n".join(_setting_error(each["loc"], each["msg"]) for each in error.errors()))
    except ValueError as error:
        sys.exit(f"runyard: {error}")
    return settings


def warn_of_unknown_variables() -> Iterator[str]:
    """Yield a warning for each environment variable that starts with `RUNYARD_` and is not a setting."""
    from runyard.settings import Settings  # noqa: PLC0415
    from runyard.terminal.options import CLIENT_VARIABLES  # noqa: PLC0415

    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | set(CLIENT_VARIABLES)
    return describe_unknown_variables(os.environ, known)


def describe_unknown_variables(names: Iterable[str], known: set[str]) -> Iterator[str]:
    """Yield a warning for each name that starts with `RUNYARD_` and is not known, with the most similar known name.

    The case of letters does not matter.
    """
    for name in sorted(names):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        # The prefix, which all names have, would make them similar.
        known_suffixes = sorted(each.removeprefix(PREFIX) for each in known)
        similar = difflib.get_close_matches(name.upper().removeprefix(PREFIX), known_suffixes, n=1)
        advice = f" Did you mean {PREFIX}{similar[0]}?" if similar else ""
        yield f"{name} is not a setting and is ignored.{advice}"


def _setting_error(location: tuple[int | str, ...], message: str) -> str:
    """Return the message of an invalid setting, which begins with its variable."""
    message = message.removeprefix("Value error, ")
    return f"{PREFIX}{'_'.join(map(str, location)).upper()}: {message}" if location else message
