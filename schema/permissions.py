"""Which scopes of a token let it ask for which field of the root.

A scope opens a root field with all that can be selected below it: what a run leads to is read along with the run. Any one
of the scopes in a field's row is enough. A root field without a row is open to nobody, introspection aside.
"""

from collections.abc import Iterable, Sequence

from graphql import FieldNode, GraphQLError

from db.enums import Scope
from resolvers.errors import Refusal

Need = tuple[FieldNode, frozenset[Scope]]
"""A field of an operation's root, and the scopes of which one is needed for it."""

READ = frozenset({Scope.READ, Scope.WRITE})
"""Whoever may write may read."""
_WRITE = frozenset({Scope.WRITE})
_WORK = frozenset({Scope.WORK})
_WORKERS_READ = READ | _WORK
_WORKERS_WRITE = _WRITE | _WORK

SCOPES: dict[str, frozenset[Scope]] = {
    # Query
    "node": READ,
    "nodes": READ,
    "taskRun": _WORKERS_READ,
    "taskRuns": READ,
    "taskRunCount": READ,
    "taskRunHistory": READ,
    "flowRun": READ,
    "flowRuns": READ,
    "flow": READ,
    "flows": READ,
    "deployment": READ,
    "deployments": READ,
    "concurrencyLimit": READ,
    "concurrencyLimits": READ,
    "taskQueues": READ,
    "server": READ,
    # Mutation
    "createTaskRun": _WRITE,
    "createTaskRuns": _WRITE,
    "updateTaskRun": _WRITE,
    "deleteTaskRun": _WRITE,
    "deleteTaskRuns": _WRITE,
    "setTaskRunState": _WORKERS_WRITE,
    "setTaskRunStates": _WORKERS_WRITE,
    "claimTaskRuns": _WORK,
    "acknowledgeTaskRuns": _WORK,
    "renewTaskRunLeases": _WORK,
    "releaseTaskRuns": _WORK,
    "createFlow": _WRITE,
    "deleteFlow": _WRITE,
    "createDeployment": _WRITE,
    "deleteDeployment": _WRITE,
    "createFlowRun": _WRITE,
    "setFlowRunState": _WRITE,
    "deleteFlowRun": _WRITE,
    "createConcurrencyLimit": _WRITE,
    "deleteConcurrencyLimit": _WRITE,
    "resetConcurrencyLimit": _WRITE,
    # Subscription
    "scheduledTaskRuns": _WORK,
    "taskRunStateChanges": READ,
}


class Forbidden(Refusal):
    """The token is good, but not for this."""

    code = "FORBIDDEN"

    def __init__(self, field: str, enough: Iterable[Scope], scopes: Iterable[Scope]) -> None:
        needed = " or ".join(sorted(enough))
        super().__init__(f"{field} needs a token with the scope {needed}; this one has {' and '.join(sorted(scopes))}.")


def needs_of(fields: Iterable[FieldNode]) -> Sequence[Need]:
    """What these fields of an operation's root need, each name once."""
    by_name = {node.name.value: node for node in fields}
    return [(node, SCOPES.get(name, frozenset())) for name, node in by_name.items() if not name.startswith("__")]


def check_access(needs: Sequence[Need], scopes: frozenset[Scope]) -> None:
    """GraphQLError where one of these needs is not met."""
    for node, enough in needs:
        if enough.isdisjoint(scopes):
            refusal = Forbidden(node.name.value, enough, scopes)
            raise GraphQLError(str(refusal), node, original_error=refusal)
