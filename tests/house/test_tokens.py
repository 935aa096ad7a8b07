"""`runyard token` makes, lists and revokes API tokens, and keeps no secret."""

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from db.records import TokenRecord
from db.runtime.timestamps import instant, moment
from resolvers.api_tokens import Caller, caller_of, parts_of
from runyard.cli import app
from runyard.cli.tokens import create, has_any
from tests.builders.tokens import wanted
from tests.serving import ON_SQLITE, settings_for
from tests.tables import count_rows


def token(database_url: str, *arguments: str) -> Result:
    """What `runyard token` does, in this process."""
    return CliRunner().invoke(app, ["token", *arguments], env={"RUNYARD_DATABASE_URL": database_url})


def made(database_url: str, *scopes: str, **fields: object) -> tuple[str, TokenRecord]:
    """The text of a new token, and its record."""
    new = create(settings_for(Path(), database_url=database_url), wanted(*scopes, **fields))
    return new.text, new.record


def test_a_token_is_made_listed_and_revoked(database_url: str) -> None:
    created = token(database_url, "create", "--scope", "work", "--scope", "read", "--expires", "90d", "--name", "mill")
    listed = token(database_url, "list")
    (id,) = re.fullmatch(r"runyard_([0-9a-f]{12})_[0-9a-f]{64}\n", created.stdout).groups()  # type: ignore[union-attr]
    revoked = token(database_url, "revoke", id)
    listed_again = token(database_url, "list")

    assert created.stderr == f"Keep it: it can not be shown again. `runyard token revoke {id}` ends it.\n"
    head, row = listed.stdout.splitlines()
    assert head.split() == ["ID", "SCOPES", "CREATED", "LAST", "USED", "STATUS", "NAME"]
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    found = re.fullmatch(rf"{id}  read work  ({at})  never +valid until ({at})  mill", row)
    assert found
    assert datetime.fromisoformat(found[2]) - datetime.fromisoformat(found[1]) == timedelta(days=90)
    assert (revoked.exit_code, revoked.stdout) == (0, f"{id} is revoked.\n")
    assert re.search(rf"^{id}  read work  {at}  never +revoked {at}  mill$", listed_again.stdout, re.MULTILINE)


def test_a_token_without_an_end_is_valid_for_ever(database_url: str) -> None:
    made(database_url, "read")

    _, row = token(database_url, "list").stdout.splitlines()

    assert row.endswith("Z  never      valid for ever")


def test_a_server_finds_a_valid_token_where_there_is_one(database_url: str) -> None:
    settings = settings_for(Path(), database_url=database_url)

    before = has_any(settings)
    text, _ = made(database_url, "work")
    with_one = has_any(settings)
    token(database_url, "revoke", text)

    assert (before, with_one, has_any(settings)) == (False, True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "Missing option '--scope'"),
        (["create", "--scope", "own"], "own is no scope: read, write, work."),
        (["create", "--scope", "read", "--expires", "soon"], "'soon' is no duration."),
        (["create", "--scope", "read", "--expires", "0d"], "'0d' has to be more than nothing"),
    ],
)
def test_what_can_not_be_made_is_refused_and_makes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused = token(f"sqlite+aiosqlite:///{tmp_path}/new.db", *arguments)

    assert refused.exit_code == 2
    assert message in re.sub(r"\s*│\s*", " ", refused.stderr)
    assert not (tmp_path / "new.db").exists()


def test_a_beginning_that_no_other_token_has_names_one(database_url: str) -> None:
    (_, first), (text, second) = made(database_url, "read"), made(database_url, "read")
    first_alone = next(first.id[:n] for n in range(1, 13) if not second.id.startswith(first.id[:n]))

    shown = [token(database_url, "revoke", name).stdout for name in (first_alone, text)]

    assert shown == [f"{first.id} is revoked.\n", f"{second.id} is revoked.\n"]


@pytest.mark.parametrize("name", ["", "runyard_", "ffffffffffffff"])
def test_what_names_no_single_token_revokes_none(database_url: str, name: str) -> None:
    made(database_url, "read")

    refused = token(database_url, "revoke", name)

    assert refused.exit_code == 1
    assert refused.output.startswith("runyard: No single token has the id ")
    assert "valid for ever" in token(database_url, "list").stdout


@ON_SQLITE
def test_the_secret_is_kept_nowhere(database_url: str) -> None:
    text, record = made(database_url, "read", name="mill")
    parts = parts_of(text)
    assert parts

    path = Path(database_url.partition(":///")[2])
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    kept = path.read_bytes()
    assert record.secret_hash.encode() in kept
    assert parts[1].encode() not in kept


async def test_a_database_begins_without_tokens(database_url: str) -> None:
    assert await count_rows(database_url, ["api_token"]) == {"api_token": 0}


# --- who is let in ---

NOW = "2030-01-01T12:00:00.000000Z"


@ON_SQLITE
def test_the_secret_lets_in_with_the_scopes_of_its_token(database_url: str) -> None:
    text, record = made(database_url, "read", "work")
    parts = parts_of(text)
    assert parts

    assert parts[0] == record.id
    assert caller_of(record, parts[1], NOW) == Caller(record.id, wanted("read", "work").scopes)


@ON_SQLITE
def test_another_secret_does_not(database_url: str) -> None:
    _, record = made(database_url, "read")

    assert caller_of(record, "0" * 64, NOW) is None


@ON_SQLITE
def test_the_moment_of_its_end_is_too_late(database_url: str) -> None:
    text, record = made(database_url, "read", lifetime=timedelta(days=1))
    parts = parts_of(text)
    assert parts
    assert record.expires_at
    assert moment(record.expires_at) - moment(record.created) == timedelta(days=1)

    assert caller_of(record, parts[1], instant(moment(record.expires_at) - timedelta(microseconds=1))) is not None
    assert caller_of(record, parts[1], record.expires_at) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "runyard__",
        f"runyard_{'0' * 12}_{'0' * 63}",
        f"runyard_{'0' * 12}_{'0' * 64} ",
        f"runyard_{'0' * 12}_{'0' * 64}\n",
        f"runyard_{'A' * 12}_{'0' * 64}",
        f"{'0' * 12}_{'0' * 64}",
    ],
)
def test_what_has_not_the_form_of_a_token_is_none(text: str) -> None:
    assert parts_of(text) is None
