"""Named GraphQL documents: one operation per file, and the file has the name of the operation.

GraphiQL shows them in its tabs and its menu, the tests send them, and clients can copy them. A file `<Operation>.json`
next to a document contains example variables; documents with required variables have one. Imports nothing of Runyard.
"""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

MAIN_JOB = (
    "CreateTaskRun",
    "ClaimTaskRuns",
    "AcknowledgeTaskRuns",
    "SetTaskRunRunning",
    "SetTaskRunCompleted",
    "ListTaskRuns",
)
"""Operations in the life of a task run, in order. Their example variables fit each other, except for ids."""

FOLDERS = ("task_runs", "workers", "flow_runs", "concurrency", "server")
"""Folders of the documents, in the order of the menu."""


@cache
def paths() -> dict[str, Path]:
    """Return the file of every document by the name of its operation."""
    return {path.stem: path for path in sorted(_HERE.rglob("*.graphql"))}


def in_folder(folder: str) -> list[str]:
    """Return the names of the operations in a folder, sorted."""
    return [operation for operation, path in paths().items() if path.parent == _HERE / folder]


@cache
def document(operation: str) -> tuple[str, str]:
    """Return the document of an operation and its example variables as JSON text; an empty text if it has none."""
    path = paths()[operation]
    variables = path.with_suffix(".json")
    return path.read_text("utf-8"), variables.read_text("utf-8") if variables.exists() else ""
