"""Deployment files: the settings, commands and files that they name exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from runyard.cli import app
from runyard.settings import Settings

REPOSITORY = Path(__file__).parent.parent.parent
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")
IGNORED = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))
UNIT = (REPOSITORY / "deploy/runyard.service").read_text("utf-8")
SETTINGS = {f"RUNYARD_{name.upper()}" for name in Settings.model_fields}

# Variables that are not settings of the server.
OTHER_VARIABLES = {"RUNYARD_POSTGRES_PASSWORD", "RUNYARD_NAME"}


def is_command(words: list[str]) -> bool:
    """Return whether `runyard` followed by `words` is a command."""
    command: Any = get_command(app)
    for word in words:
        command = command.commands.get(word)
        if command is None:
            return False
    return not hasattr(command, "commands")


def test_the_files_copied_into_the_image_exist_and_are_not_ignored() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]

    assert copied == ["pyproject.toml", "README.md", "LICENSE", "runyard", "schema", "resolvers", "db", "queries"]
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []
    assert [name for name in copied if f"!{name}" not in IGNORED] == []


def test_the_image_runs_a_command_as_a_non_root_user() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)

    program, *words = yaml.safe_load(command)
    assert program == "runyard"
    assert is_command(words)
    assert int(user) > 0
    assert "/readyz" in DOCKERFILE


def test_the_servers_start_after_the_database_was_upgraded() -> None:
    services = COMPOSE["services"]

    assert sorted(services) == ["postgres", "runyard-1", "runyard-2", "upgrade"]
    assert is_command(services["upgrade"]["command"][1:])
    for name in ("runyard-1", "runyard-2"):
        assert services[name]["depends_on"] == {"upgrade": {"condition": "service_completed_successfully"}}
        assert services[name]["environment"] == services["upgrade"]["environment"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200", "127.0.0.1:4201:4200"]


def test_the_settings_in_compose_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = COMPOSE["services"]["runyard-1"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))

    settings = Settings()  # pyright: ignore[reportCallIssue]

    assert settings.database == "postgresql://runyard:runyard@postgres/runyard"
    assert settings.model_fields_set == {name.removeprefix("RUNYARD_").lower() for name in environment}


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "deploy/runyard.service"])
def test_deployment_files_name_only_existing_settings(file: str) -> None:
    named = set(re.findall(r"RUNYARD_[A-Z_]+", (REPOSITORY / file).read_text("utf-8")))

    assert named - OTHER_VARIABLES <= SETTINGS
    assert "RUNYARD_DATABASE_URL" in named


def test_the_systemd_unit_starts_a_command_and_waits_for_its_shutdown() -> None:
    (words,) = re.findall(r"^ExecStart=/opt/runyard/bin/runyard (.*)$", UNIT, re.MULTILINE)
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)

    assert is_command(words.split())
    assert int(seconds) > Settings.model_fields["stop_seconds"].default
    assert [line for line in UNIT.splitlines() if line and not re.match(r"#|\[\w+\]$|[A-Za-z]+=", line)] == []
