"""The tree: no room is too large to take in, every package says what it holds, and the guides name files that exist."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.house.source_files import ROOT, python_files, tracked_files

MAX_MODULES = 25
LAYERS = ("runyard", "schema", "resolvers", "db", "queries")
CLIENT = "clients/python/runyard_client"


@pytest.mark.parametrize("folder", [*LAYERS, "tests", "benchmarks", CLIENT])
def test_no_folder_has_more_than_25_modules(folder: str) -> None:
    modules = Counter(path.parent for path in python_files(folder) if path.name != "__init__.py")

    assert {str(room.relative_to(ROOT)): count for room, count in modules.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("folder", [*LAYERS, CLIENT])
def test_every_package_says_what_it_holds(folder: str) -> None:
    packages = [path for path in python_files(folder) if path.name == "__init__.py"]

    assert packages
    assert [str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


@pytest.mark.parametrize("folder", [*LAYERS, CLIENT])
def test_every_module_says_what_it_holds(folder: str) -> None:
    modules = python_files(folder)

    assert [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def rooms_of_contributing() -> set[str]:
    """The folders of the tree that CONTRIBUTING.md shows."""
    tree = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("```")[3]
    rooms: list[str] = []
    layer = ""
    for line in tree.splitlines():
        if match := re.match(r"( *)([a-z_]+)/", line):
            layer = layer if match[1] else match[2]
            rooms.append(f"{layer}/{match[2]}" if match[1] else match[2])
    return set(rooms)


def test_contributing_shows_every_room() -> None:
    folders = {path.parent.relative_to(ROOT) for layer in LAYERS for path in python_files(layer)}
    rooms = {str(Path(*folder.parts[:2])) for folder in folders}

    assert rooms_of_contributing() - {"docs", "tests", "benchmarks", "examples", "deploy", "clients"} == rooms


@pytest.mark.parametrize("guide", ["CONTRIBUTING.md", "GLOSSARY.md"])
def test_every_path_in_a_guide_exists(guide: str) -> None:
    text = (ROOT / guide).read_text("utf-8")
    paths = re.findall(r"`((?:[a-zA-Z_]+/)+(?:[A-Za-z_]+\.[a-z]+)?)`", text)

    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_glossary_defines_each_word_once() -> None:
    text = (ROOT / "GLOSSARY.md").read_text("utf-8")
    words = [word for line in text.splitlines() if line.startswith("**") for word in re.findall(r"\*\*(.+?)\*\*", line)]

    assert len(words) > 60
    assert [word for word, count in Counter(words).items() if count > 1] == []
    required = {"limit", "rule", "page", "position", "operation", "request", "response", "engine", "history", "lease"}
    assert required <= set(words)


MIRRORED = {"FlowRunPolicy", "LeaseResult", "RunHistoryInterval", "RunHistoryState", "StateDetails", "TaskQueue"}
MIRRORED |= {"TaskRunPolicy", "TaskRunProgress"}
"""Classes of the domain that have a GraphQL type of the same name."""


def test_a_class_name_has_one_meaning() -> None:
    names = Counter(
        node.name
        for layer in LAYERS
        for path in python_files(layer)
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert {name for name, count in names.items() if count > 1} == MIRRORED


def test_the_files_of_the_project_are_found() -> None:
    assert ROOT / "GLOSSARY.md" in tracked_files(".")
