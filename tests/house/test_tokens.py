"""API tokens: `runyard token` creates, lists and revokes them, and no secret is stored."""

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from db.records import TokenRecord
from db.runtime.timestamps import format_timestamp, parse_timestamp
from resolvers.api_tokens import Caller, authenticate_token, parse_token
from runyard.cli import app
from runyard.cli.tokens import create, has_any
from tests.builders.tokens import token_input
from tests.serving import SQLITE_ONLY, settings_for
from tests.tables import count_rows


def run_token(database_url: str, *arguments: str) -> Result:
    """Run `runyard token` in the process of the test."""
    return CliRunner().invoke(app, ["token", *arguments], env={"RUNYARD_DATABASE_URL": database_url})


def create_token(database_url: str, *scopes: str, **fields: object) -> tuple[str, TokenRecord]:
    """Create a token and return its text and its record."""
    new = create(settings_for(Path(), database_url=database_url), token_input(*scopes, **fields))
    return new.text, new.record


def test_a_token_is_created_listed_and_revoked(database_url: str) -> None:
    created = run_token(
        database_url, "create", "--scope", "work", "--scope", "read", "--expires", "90d", "--name", "mill"
    )
    listed = run_token(database_url, "list")
    (id,) = re.fullmatch(r"runyard_([0-9a-f]{12})_[0-9a-f]{64}\n", created.stdout).groups()  # type: ignore[union-attr]
    revoked = run_token(database_url, "revoke", id)
    listed_again = run_token(database_url, "list")

    assert created.stderr == f"Save it now; it cannot be shown again. Revoke it with `runyard token revoke {id}`.\n"
    head, row = listed.stdout.splitlines()
    assert head.split() == ["ID", "SCOPES", "CREATED", "LAST", "USED", "STATUS", "NAME"]
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    found = re.fullmatch(rf"{id}  read work  ({at})  never +valid until ({at})  mill", row)
    assert found
    assert datetime.fromisoformat(found[2]) - datetime.fromisoformat(found[1]) == timedelta(days=90)
    assert (revoked.exit_code, revoked.stdout) == (0, f"{id} is revoked.\n")
    assert re.search(rf"^{id}  read work  {at}  never +revoked {at}  mill$", listed_again.stdout, re.MULTILINE)


def test_a_token_without_an_expiry_does_not_expire(database_url: str) -> None:
    create_token(database_url, "read")

    _, row = run_token(database_url, "list").stdout.splitlines()

    assert row.endswith("Z  never      valid, does not expire")


def test_a_valid_token_is_detected(database_url: str) -> None:
    settings = settings_for(Path(), database_url=database_url)

    before = has_any(settings)
    text, _ = create_token(database_url, "work")
    with_one = has_any(settings)
    run_token(database_url, "revoke", text)

    assert (before, with_one, has_any(settings)) == (False, True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "Missing option '--scope'"),
        (["create", "--scope", "own"], "own is not a scope. Use one of read, write, work."),
        (["create", "--scope", "read", "--expires", "soon"], "'soon' is not a duration."),
        (["create", "--scope", "read", "--expires", "0d"], "'0d' is out of range: a duration must be"),
    ],
)
def test_invalid_arguments_are_rejected_and_create_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    completed = run_token(f"sqlite+aiosqlite:///{tmp_path}/new.db", *arguments)

    assert completed.exit_code == 2
    assert message in re.sub(r"\s*│\s*", " ", completed.stderr)
    assert not (tmp_path / "new.db").exists()


def test_a_unique_prefix_identifies_a_token(database_url: str) -> None:
    (_, first), (text, second) = create_token(database_url, "read"), create_token(database_url, "read")
    first_alone = next(first.id[:n] for n in range(1, 13) if not second.id.startswith(first.id[:n]))

    outputs = [run_token(database_url, "revoke", name).stdout for name in (first_alone, text)]

    assert outputs == [f"{first.id} is revoked.\n", f"{second.id} is revoked.\n"]


@pytest.mark.parametrize("name", ["", "runyard_", "ffffffffffffff"])
def test_an_ambiguous_or_unknown_token_revokes_nothing(database_url: str, name: str) -> None:
    create_token(database_url, "read")

    completed = run_token(database_url, "revoke", name)

    assert completed.exit_code == 1
    assert completed.output.startswith("runyard: No single token has the id ")
    assert "valid, does not expire" in run_token(database_url, "list").stdout


@SQLITE_ONLY
def test_the_secret_is_not_stored(database_url: str) -> None:
    text, record = create_token(database_url, "read", name="mill")
    parts = parse_token(text)
    assert parts

    path = Path(database_url.partition(":///")[2])
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    stored = path.read_bytes()
    assert record.secret_hash.encode() in stored
    assert parts[1].encode() not in stored


async def test_a_new_database_has_no_tokens(database_url: str) -> None:
    assert await count_rows(database_url, ["api_token"]) == {"api_token": 0}


NOW = "2030-01-01T12:00:00.000000Z"


@SQLITE_ONLY
def test_the_secret_authenticates_with_the_scopes_of_its_token(database_url: str) -> None:
    text, record = create_token(database_url, "read", "work")
    parts = parse_token(text)
    assert parts

    assert parts[0] == record.id
    assert authenticate_token(record, parts[1], NOW) == Caller(record.id, token_input("read", "work").scopes)


@SQLITE_ONLY
def test_another_secret_does_not_authenticate(database_url: str) -> None:
    _, record = create_token(database_url, "read")

    assert authenticate_token(record, "0" * 64, NOW) is None


@SQLITE_ONLY
def test_a_token_is_invalid_from_its_expiry_time(database_url: str) -> None:
    text, record = create_token(database_url, "read", lifetime=timedelta(days=1))
    parts = parse_token(text)
    assert parts
    assert record.expires_at
    assert parse_timestamp(record.expires_at) - parse_timestamp(record.created) == timedelta(days=1)

    assert (
        authenticate_token(
            record, parts[1], format_timestamp(parse_timestamp(record.expires_at) - timedelta(microseconds=1))
        )
        is not None
    )
    assert authenticate_token(record, parts[1], record.expires_at) is None


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
def test_malformed_token_text_is_rejected(text: str) -> None:
    assert parse_token(text) is None
