"""Everything that people read uses standard terms: phrases that paraphrase them are found wherever they are written."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_files import ROOT, python_files, tracked_files

BANNED = {
    r"lets? (?:\w+ ){0,3}through": "matches, allows",
    r"goes by|go by what|went by": "is sorted by, uses",
    r"how (?:it|they) stands?": "status, statistics",
    r"stands? for (?:a|the|it|them|its) ?(?:sub|flow|run)": "represents",
    r"\b(?:came|comes?|coming) of\b": "result",
    r"what (?:has )?bec[ao]mes? of|becomes? of": "result, outcome",
    r"somebody|someone|anybody|whoever|whomever": "a client, a worker, another server",
    r"nobody": "no client, no worker, no other server",
    r"made up": "generated",
    r"called off": "cancelled",
    r"as (?:many|much|few|long) as may|\bas may\b": "up to, at most",
    r"left out|leaves? out|leaving out": "optional, omitted",
    r"tak(?:e|en|es|ing) (?:it |them |runs? |the runs? )?over\b": "acknowledge",
    r"g(?:ive|iven|ives|iving|ave) (?:it |them |runs? )?back": "release, return",
    r"hand(?:s|ed|ing)? (?:it |them |runs? )?back": "release",
    r"put(?:s|ting)? (?:it |them |runs? )?back": "requeue",
    r"tak(?:e|en|es|ing) (?:it |them |runs? )?back|took back": "reclaim, undo",
    r"can not": "cannot",
    r"(?:is|are|was|were|be|been) told": "receives, is reported",
    r"\btells?\b|\btelling\b": "reports, returns, shows",
    r"so that": "a sentence of its own: subject first",
    r"(?:our|own|other|different|new|these) words": "terms, errors of this project",
    r"at the most|at the least": "at most, at least",
    r"once more": "again",
    r"(?:is|are|was|were) over\b(?! \d)": "has ended",
    r"\banswers?\b|\banswered\b|\banswering\b": "response (HTTP), result (operation)",
    r"\bcrowds?\b": "all operations together",
    r"\bportions?\b": "batch, chunk",
    r"\ballowances?\b": "budget",
    r"from above|the floors? (?:above|below)|the stairs?": "callers, the layers above",
    r"what there is|what is there|there is none": "say what exists or does not",
    r"for good\b": "permanently",
    r"come again|ask again|asks again|asked again": "retry",
    r"lies ready|lie ready": "is waiting",
    r"by the way": "omit it",
    r"has to be|have to be|had to be": "must be",
    r"under way": "in progress, in flight",
    r"of (?:its|their|his|her) own(?= ?[.,;:)]|$)": "own, separate",
    r"\banew\b": "again",
    r"looked at|looks at|looking at": "checks, inspects, reads",
    r"seen to\b|sees to\b": "handled",
    r"g(?:oes|o|oing) on\b": "continues",
    r"(?:is|was|were|be|are|goes|went) away\b": "is unavailable",
    r"for ever\b": "without a limit",
    r"so many\b": "a number of",
    r"lets? in\b|is let\b|are let\b": "authenticated, allowed",
    r"given up|gives? up|gave up": "cancelled, abandoned",
    r"carr(?:y|ies|ied|ying) (?:it |them )?out": "execute",
    r"r(?:un|uns|an|unning) out\b": "expires, is exhausted",
    r"put aside|puts aside|stands? in (?:the|its) way": "discarded, blocks",
    r"none of these": "say what is empty or missing",
    r"is meant to|was meant to|were meant to": "is expected to",
    r"in its (?:place|stead)\b|in the place of": "instead",
}
"""Phrases that are not used, as regular expressions without regard to case, and what to say instead."""

MEANT = {
    ("tests/house/test_wording.py", ""),
}
"""Places where a phrase is meant literally: the file, and a part of the text (all of the file when empty)."""

PRODUCT = ("runyard", "schema", "resolvers", "db", "queries", "benchmarks", "examples", "clients")
SCHEMA = (ROOT / "schema" / "schema.graphql").read_text("utf-8")
DOCUMENTS = (".md", ".graphql", "justfile", ".toml", ".yaml", ".yml", ".service", "Dockerfile")


def texts_in_python(source: str, *, with_messages: bool, ignored: str = "") -> Iterator[tuple[int, str]]:
    """Line and text of each comment, docstring and name of a test; with messages, of every other text of several words.

    Texts that are part of `ignored` are not messages.
    """
    tree = ast.parse(source)
    documentation = {
        id(statement.value)
        for block in ast.walk(tree)
        if isinstance(block, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in block.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_message = with_messages and " " in node.value and node.value not in ignored
            if id(node) in documentation or is_message:
                yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of everything in the file that people read."""
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        folder = path.relative_to(ROOT).parts[0]
        # Descriptions are read in the printed schema.
        yield from texts_in_python(source, with_messages=folder in PRODUCT, ignored=SCHEMA)
    else:
        yield 1, source


def banned_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Line within the text, phrase and replacement of each banned phrase. A phrase may go over the end of a line."""
    for pattern, instead in BANNED.items():
        for match in re.finditer(pattern.replace(" ", r"\s+(?:#\s*)?"), text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()), match[0], instead


def is_read_by_people(path: Path) -> bool:
    return path.suffix == ".py" or path.name.endswith(DOCUMENTS)


def is_meant(name: str, text: str) -> bool:
    return any(name == file and part in text for file, part in MEANT)


@pytest.mark.parametrize("folder", [*PRODUCT, "docs", "tests", "."])
def test_no_banned_phrase_is_written(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line + offset}: {phrase!r}, say: {instead}"
        for path in tracked_files(folder)
        if is_read_by_people(path)
        for line, text in texts_of(path)
        if not is_meant(str(path.relative_to(ROOT)), text)
        for offset, phrase, instead in banned_in(text)
    ]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        ('"""Tells what came of it."""', "came of"),
        ("# whoever asks\nx = 1", "whoever"),
        ("def f():\n    '''What a list\n    goes by.'''", "goes by"),
        ("raise ValueError('It can not be done')", "can not"),
        ("def test_what_is_left_out_is_kept(): ...", "left out"),
    ],
)
def test_a_banned_phrase_is_found_in_every_kind_of_text(source: str, phrase: str) -> None:
    found = [each for _, text in texts_in_python(source, with_messages=True) for _, each, _ in banned_in(text)]

    assert phrase in [" ".join(each.split()) for each in found]


def test_python_files_are_looked_at() -> None:
    assert len(python_files("schema")) > 30
