"""Documentation: its links lead to existing files and headings, and its GraphQL, JSON and requests are valid."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, parse, validate
from graphql.execution.values import get_variable_values

from runyard.settings import Settings
from runyard.terminal.options import CLIENT_VARIABLES
from runyard_client.worker.settings import ENVIRONMENT_PREFIX, WorkerSettings
from schema.root import build_schema
from tests.house.source_files import ROOT, tracked_files

PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for folder in (".", "docs", "examples", "benchmarks", "tests", "clients")
    for path in tracked_files(folder)
    if path.suffix == ".md"
}
"""Text of each page by its path."""

SETTINGS = {f"RUNYARD_{name.upper()}" for name in Settings.model_fields} | set(CLIENT_VARIABLES)

OTHER_VARIABLES = {"RUNYARD_MAX_", "RUNYARD_WORKER_", "RUNYARD_TEST_DATABASE_URL", "RUNYARD_TEST_URL"}
"""Variables of the tests, and prefixes."""

CLIENT_SETTINGS = {"RUNYARD_TOKEN_FILE"} | {
    ENVIRONMENT_PREFIX + each.name.strip("_").upper() for each in fields(WorkerSettings)
}
"""Variables of the Python client."""


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, also those in lists."""
    return [block for _, block in re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)]


def without_code(text: str) -> str:
    """Return the text without code blocks and without the content of inline code."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub derives them."""
    blocks_removed = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    counts = Counter[str]()
    for heading in re.findall(r"^#+ +(.+?) *$", blocks_removed, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


def broken_links(text: str, path: Path) -> Iterator[str]:
    """Yield each relative link of the page at `path` whose file or anchor does not exist."""
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        has_anchor = not anchor or (target.suffix == ".md" and anchor in anchors(target.read_text("utf-8")))
        if not target.exists() or not has_anchor:
            yield link


def document_errors(document: DocumentNode) -> list[GraphQLError]:
    return validate(build_schema()._schema, document)


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "GLOSSARY.md", "docs/README.md", "docs/settings.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_heading(page: str) -> None:
    assert list(broken_links(PAGES[page], ROOT / page)) == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](GLOSSARY.md#states), [`b`](docs), [c](#here)\n\n## Here\n", []),
        ("[a](missing.md)", ["missing.md"]),
        ("[`a`](GLOSSARY.md#no-such-heading)", ["GLOSSARY.md#no-such-heading"]),
        ("| [a](#nowhere) |\n\n```\n# Nowhere\n```\n", ["#nowhere"]),
        ("`[a](missing.md)` <https://example.org> [b](https://example.org/missing.md)", []),
    ],
    ids=["good", "file", "heading", "heading in code", "code and other hosts"],
)
def test_a_broken_link_is_found(tmp_path: Path, text: str, broken: list[str]) -> None:
    for name in ("GLOSSARY.md", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = tmp_path / "page.md"
    page.write_text(text)

    assert list(broken_links(text, page)) == broken


def test_headings_have_the_anchors_of_github() -> None:
    text = "# Read `/metrics`, twice\n## Retry\n### Retry\n## HTTP & [JSON](x.md)\n"

    assert anchors(text) == {"read-metrics-twice", "retry", "retry-1", "http--json"}


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = PAGES["docs/README.md"]
    pages = [name.removeprefix("docs/") for name in PAGES if name.startswith("docs/") and name != "docs/README.md"]

    assert [name for name in pages if f"]({name})" not in index] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_graphql_block_is_valid(page: str) -> None:
    errors = [(block, document_errors(parse(block))) for block in code_blocks(PAGES[page], "graphql")]

    assert [(block, found) for block, found in errors if found] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_json_block_is_valid(page: str) -> None:
    for block in code_blocks(PAGES[page], "json"):
        orjson.loads(block)


@pytest.mark.parametrize("page", PAGES)
def test_every_request_is_valid(page: str) -> None:
    for block in code_blocks(PAGES[page], "sh"):
        for body in re.findall(r" -d '(\{.*?\})'", block, re.DOTALL):
            request: dict[str, Any] = orjson.loads(body)
            document = parse(request["query"])

            assert document_errors(document) == []

            (operation,) = (each for each in document.definitions if isinstance(each, OperationDefinitionNode))
            values = get_variable_values(
                build_schema()._schema, operation.variable_definitions or (), request.get("variables") or {}
            )
            assert not isinstance(values, list), values


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_only_existing_settings(page: str) -> None:
    assert set(re.findall(r"RUNYARD_[A-Z_]+", PAGES[page])) - OTHER_VARIABLES - CLIENT_SETTINGS <= SETTINGS
