"""The files that servers are deployed with name what is there: settings, commands, and files to copy."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from runyard.cli import app
from runyard.settings import Settings

HOUSE = Path(__file__).parent.parent.parent
DOCKERFILE = (HOUSE / "Dockerfile").read_text("utf-8")
IGNORED = (HOUSE / ".dockerignore").read_text("utf-8").splitlines()
COMPOSE: dict[str, Any] = yaml.safe_load((HOUSE / "compose.yaml").read_text("utf-8"))
UNIT = (HOUSE / "deploy/runyard.service").read_text("utf-8")
SETTINGS = {f"RUNYARD_{name.upper()}" for name in Settings.model_fields}

# A password for PostgreSQL, which compose alone reads.
NOT_OURS = {"RUNYARD_POSTGRES_PASSWORD", "RUNYARD_NAME"}


def is_command(words: list[str]) -> bool:
    """Whether these words, after `runyard`, are a command."""
    command: Any = get_command(app)
    for word in words:
        command = command.commands.get(word)
        if command is None:
            return False
    return not hasattr(command, "commands")


def test_what_the_image_is_built_from_is_there_and_not_ignored() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]

    assert copied == ["pyproject.toml", "README.md", "LICENSE", "runyard", "schema", "resolvers", "db", "queries"]
    assert [name for name in copied if not (HOUSE / name).exists()] == []
    assert [name for name in copied if f"!{name}" not in IGNORED] == []


def test_the_image_runs_a_command_as_nobody_in_particular() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)

    program, *words = yaml.safe_load(command)
    assert program == "runyard"
    assert is_command(words)
    assert int(user) > 0
    assert "/readyz" in DOCKERFILE


def test_the_servers_start_on_a_database_that_was_upgraded_before() -> None:
    services = COMPOSE["services"]

    assert sorted(services) == ["postgres", "runyard-1", "runyard-2", "upgrade"]
    assert is_command(services["upgrade"]["command"][1:])
    for name in ("runyard-1", "runyard-2"):
        assert services[name]["depends_on"] == {"upgrade": {"condition": "service_completed_successfully"}}
        assert services[name]["environment"] == services["upgrade"]["environment"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200", "127.0.0.1:4201:4200"]


def test_the_settings_of_the_servers_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = COMPOSE["services"]["runyard-1"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))

    settings = Settings()  # pyright: ignore[reportCallIssue]

    assert settings.database == "postgresql://runyard:runyard@postgres/runyard"
    assert settings.model_fields_set == {name.removeprefix("RUNYARD_").lower() for name in environment}


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "deploy/runyard.service"])
def test_only_settings_that_there_are_are_named(file: str) -> None:
    named = set(re.findall(r"RUNYARD_[A-Z_]+", (HOUSE / file).read_text("utf-8")))

    assert named - NOT_OURS <= SETTINGS
    assert "RUNYARD_DATABASE_URL" in named


def test_the_unit_starts_a_command_and_waits_for_its_stop() -> None:
    (words,) = re.findall(r"^ExecStart=/opt/runyard/bin/runyard (.*)$", UNIT, re.MULTILINE)
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)

    assert is_command(words.split())
    assert int(seconds) > Settings.model_fields["stop_seconds"].default
    assert [line for line in UNIT.splitlines() if line and not re.match(r"#|\[\w+\]$|[A-Za-z]+=", line)] == []
