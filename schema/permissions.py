"""Token scopes that each root field requires.

A scope grants a root field together with everything that can be selected below it, including related objects. Any one
of the scopes listed for a field is enough. No token can use a root field that is not listed, except for introspection.
`schema.state_change_scopes` restricts the arguments that the scope `work` permits.
"""

from collections.abc import Iterable, Sequence

from graphql import FieldNode, GraphQLError

from db.enums import Scope
from resolvers.errors import ErrorCode, Refusal

Scopes = frozenset[Scope]
"""The scopes of one token."""

ScopeRequirement = tuple[FieldNode, frozenset[Scope]]
"""A root field of an operation, and the scopes that it accepts."""

READ_SCOPES = frozenset({Scope.READ, Scope.WRITE})
"""The write scope includes reading."""
WRITE_SCOPES = frozenset({Scope.WRITE})
_WORK_SCOPES = frozenset({Scope.WORK})
_WORKER_READ_SCOPES = READ_SCOPES | _WORK_SCOPES
_WORKER_WRITE_SCOPES = WRITE_SCOPES | _WORK_SCOPES
_ANY_SCOPE = frozenset(Scope)

ROOT_FIELD_SCOPES: dict[str, frozenset[Scope]] = {
    # Query
    "node": READ_SCOPES,
    "nodes": READ_SCOPES,
    "taskRun": _WORKER_READ_SCOPES,
    "taskRuns": READ_SCOPES,
    "taskRunCount": READ_SCOPES,
    "taskRunHistory": READ_SCOPES,
    "endedTaskRuns": _WORKER_READ_SCOPES,
    "leaseSignals": _WORK_SCOPES,
    "stateChangeCursor": READ_SCOPES,
    "flowRun": READ_SCOPES,
    "flowRuns": READ_SCOPES,
    "flow": READ_SCOPES,
    "flows": READ_SCOPES,
    "deployment": READ_SCOPES,
    "deployments": READ_SCOPES,
    "concurrencyLimit": READ_SCOPES,
    "concurrencyLimits": READ_SCOPES,
    "taskQueues": READ_SCOPES,
    "workers": READ_SCOPES,
    "server": _ANY_SCOPE,
    "viewer": _ANY_SCOPE,
    # Mutation
    "createTaskRun": WRITE_SCOPES,
    "createTaskRuns": WRITE_SCOPES,
    "updateTaskRun": WRITE_SCOPES,
    "deleteTaskRun": WRITE_SCOPES,
    "deleteTaskRuns": WRITE_SCOPES,
    "setTaskRunState": _WORKER_WRITE_SCOPES,
    "setTaskRunStates": _WORKER_WRITE_SCOPES,
    "cancelTaskRuns": WRITE_SCOPES,
    "retryTaskRuns": WRITE_SCOPES,
    "rescheduleTaskRuns": WRITE_SCOPES,
    "claimTaskRuns": _WORK_SCOPES,
    "acknowledgeTaskRuns": _WORK_SCOPES,
    "renewTaskRunLeases": _WORK_SCOPES,
    "releaseTaskRuns": _WORK_SCOPES,
    "exchangeTaskRuns": _WORK_SCOPES,
    "reportTaskRunProgress": _WORK_SCOPES,
    "pauseTaskQueue": WRITE_SCOPES,
    "resumeTaskQueue": WRITE_SCOPES,
    "createFlow": WRITE_SCOPES,
    "deleteFlow": WRITE_SCOPES,
    "createDeployment": WRITE_SCOPES,
    "deleteDeployment": WRITE_SCOPES,
    "createFlowRun": WRITE_SCOPES,
    "setFlowRunState": WRITE_SCOPES,
    "cancelFlowRuns": WRITE_SCOPES,
    "deleteFlowRun": WRITE_SCOPES,
    "setConcurrencyLimit": WRITE_SCOPES,
    "deleteConcurrencyLimit": WRITE_SCOPES,
    "resetConcurrencyLimit": WRITE_SCOPES,
    # Subscription
    "scheduledTaskRuns": _WORK_SCOPES,
    "taskRunStateChanges": READ_SCOPES,
}


class Forbidden(Refusal):
    """The token is valid but has no scope that the field, or the field with this argument, accepts."""

    code = ErrorCode.FORBIDDEN

    def __init__(
        self,
        subject: str,
        accepted_scopes: Iterable[Scope],
        scopes: Iterable[Scope],
        *,
        argument: str | None = None,
    ) -> None:
        needed = " or ".join(sorted(accepted_scopes))
        present = " and ".join(sorted(scopes))
        super().__init__(f"{subject} requires a token with the scope {needed}; this token has {present}.")
        self.argument = argument


def required_scopes(fields: Iterable[FieldNode]) -> Sequence[ScopeRequirement]:
    """Return the requirements of an operation's root fields, each name once, without introspection."""
    by_name = {node.name.value: node for node in fields}
    return [
        (node, ROOT_FIELD_SCOPES.get(name, frozenset())) for name, node in by_name.items() if not name.startswith("__")
    ]


def check_scopes(requirements: Sequence[ScopeRequirement], scopes: Scopes) -> None:
    """Raise GraphQLError for the first requirement that `scopes` does not meet."""
    for node, accepted_scopes in requirements:
        if accepted_scopes.isdisjoint(scopes):
            refusal = Forbidden(node.name.value, accepted_scopes, scopes)
            raise GraphQLError(str(refusal), node, original_error=refusal)
