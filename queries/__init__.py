"""Named GraphQL documents, one operation a file, the file named after the operation.

The same files are GraphiQL's tabs, the tests' requests and an example for every client. Beside a document may lie its
variables as an example (`<Operation>.json`). Imports nothing.
"""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

MAIN_JOB = ("CreateTaskRun", "ScheduledTaskRuns", "AcknowledgeTaskRuns", "SetTaskRunState", "ListTaskRuns")
"""The operations of the main job, in the order in which it goes: create, receive, take over, carry out, see."""


@cache
def paths() -> dict[str, Path]:
    """Every document's file, by the name of its operation."""
    return {path.stem: path for path in sorted(_HERE.rglob("*.graphql"))}


@cache
def document(operation: str) -> tuple[str, str]:
    """The document of an operation, and example variables for it as JSON text (empty where it needs none)."""
    path = paths()[operation]
    variables = path.with_suffix(".json")
    return path.read_text("utf-8"), variables.read_text("utf-8") if variables.exists() else ""
