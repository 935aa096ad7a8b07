"""Named GraphQL documents: one operation per file, and the file has the name of the operation.

GraphiQL shows them in its tabs, the tests send them, and clients can copy them. A file `<Operation>.json` next to a
document contains example variables. Imports nothing of Runyard.
"""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

MAIN_JOB = ("CreateTaskRun", "ScheduledTaskRuns", "AcknowledgeTaskRuns", "SetTaskRunState", "ListTaskRuns")
"""Operations in the life of a task run, in order: create, receive, acknowledge, execute, list."""


@cache
def paths() -> dict[str, Path]:
    """Return the file of every document by the name of its operation."""
    return {path.stem: path for path in sorted(_HERE.rglob("*.graphql"))}


@cache
def document(operation: str) -> tuple[str, str]:
    """Return the document of an operation and its example variables as JSON text; an empty text if it has none."""
    path = paths()[operation]
    variables = path.with_suffix(".json")
    return path.read_text("utf-8"), variables.read_text("utf-8") if variables.exists() else ""
