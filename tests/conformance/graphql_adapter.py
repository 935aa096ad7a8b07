"""Translate each operation of a trace to GraphQL.

The operations are the documents of `queries/`, with every selection of a run or state extended to all compared fields.

The recordings use snake case, `state_details` and durations without units. Their policies may contain two deprecated fields,
which are converted to their successors as the recorded server did. A single retry delay becomes a list of one.
"""

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import (
    REMOVE,
    FieldNode,
    FragmentSpreadNode,
    NameNode,
    SelectionSetNode,
    Visitor,
    parse,
    print_ast,
    visit,
)

from queries import document
from tests.client import Client, Socket
from tests.conformance.adapter import Record, Refused, Unsupported
from tests.conformance.filter_input import filter_input

_FRAGMENTS = {
    "WholeTaskRun": """fragment WholeTaskRun on TaskRun {
        id name taskKey dynamicKey taskVersion cacheKey cacheExpiresAt tags taskInputs flowRunId
        retryPolicy { retries retryDelaySeconds retryJitterFactor }
        stateType stateName state { ...WholeState } runCount flowRunRunCount
        expectedStartTime nextScheduledStartTime startTime endTime
        totalRunTimeSeconds estimatedRunTimeSeconds estimatedStartTimeDeltaSeconds
    }""",
    "WholeFlowRun": """fragment WholeFlowRun on FlowRun {
        id name flowId deploymentId parentTaskRunId flowVersion idempotencyKey tags
        stateType stateName state { ...WholeState } runCount
        expectedStartTime nextScheduledStartTime startTime endTime
        totalRunTimeSeconds estimatedRunTimeSeconds estimatedStartTimeDeltaSeconds
    }""",
    "TaskRunStates": "fragment TaskRunStates on TaskRun { states { ...WholeState } }",
    # Last, because the other fragments use it.
    "WholeState": """fragment WholeState on State {
        id type name timestamp message data
        details {
            flowRunId taskRunId childFlowRunId scheduledTime cacheKey cacheExpiresAt refreshCache retriable
            transitionId pauseTimeoutAt pauseReschedule pauseKey untrackableResult
        }
    }""",
}

_KINDS = {"BAD_USER_INPUT": "validation", "NOT_FOUND": "not_found", "CONFLICT": "conflict"}

DEFAULT_PAGE_SIZE = 200
"""The default page size of the recorded server."""


@dataclass
class Listener:
    """A subscription on its own socket."""

    socket: Socket
    closing: AsyncExitStack


class GraphQLAdapter:
    """Plays traces to a Runyard server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create_flow(self, body: Record) -> str:
        return (await self._execute("CreateFlow", input=camel(body)))["flow"]["id"]

    async def create_deployment(self, body: Record) -> str:
        return (await self._execute("CreateDeployment", input=camel(body)))["deployment"]["id"]

    async def create_flow_run(self, body: Record) -> tuple[Record, bool]:
        body = {name: value for name, value in body.items() if name != "via_deployment"}
        payload = await self._execute("CreateFlowRun", input=_flow_run_input(body))
        return _run(payload["flowRun"]), payload["created"]

    async def read_flow_run(self, id: str) -> Record:
        return _run(_found(await self._execute("GetFlowRun", id=id)))

    async def delete_flow_run(self, id: str) -> None:
        await self._execute("DeleteFlowRun", id=id)

    async def set_flow_run_state(self, id: str, state: Any, force: Any) -> Record:
        force = False if force is None else force
        return _outcome(await self._execute("SetFlowRunState", id=id, state=_state_input(state), force=force))

    async def create_task_run(self, body: Record) -> tuple[Record, bool]:
        payload = await self._execute("CreateTaskRun", input=_task_run_input(body))
        return _run(payload["taskRun"]), payload["created"]

    async def read_task_run(self, id: str) -> Record:
        return _run(_found(await self._execute("GetTaskRun", id=id)))

    async def update_task_run(self, id: str, body: Record) -> None:
        await self._execute("UpdateTaskRun", id=id, input=camel(body))

    async def delete_task_run(self, id: str) -> None:
        await self._execute("DeleteTaskRun", id=id)

    async def set_task_run_state(self, id: str, state: Any, force: Any) -> Record:
        force = False if force is None else force
        return _outcome(await self._execute("SetTaskRunState", id=id, state=_state_input(state), force=force))

    async def list_task_run_states(self, id: str) -> list[Record]:
        run = await self._execute("GetTaskRun", selector=_StatesOnly, id=id)
        return [] if run is None else [_state(state) for state in run["states"]]

    async def filter_task_runs(self, body: Record) -> list[Record]:
        limit = body.get("limit")
        page = await self._execute(
            "ListTaskRuns",
            filter=filter_input(body),
            first=DEFAULT_PAGE_SIZE if limit is None else limit,
            offset=body.get("offset"),
            **({} if body.get("sort") is None else {"sort": body["sort"]}),
        )
        return [{"id": run["id"], "name": run["name"]} for run in page["nodes"]]

    async def count_task_runs(self, body: Record) -> int:
        return await self._execute("CountTaskRuns", filter=filter_input(body))

    async def task_run_history(self, body: Record) -> list[Record]:
        return await self._execute(
            "GetTaskRunHistory",
            selector=_Unchanged,
            start=body["start"],
            end=body["end"],
            intervalSeconds=body["interval_seconds"],
            filter=filter_input(body),
        )

    async def create_concurrency_limit(self, tag: Any, limit: Any) -> Record:
        return _limit((await self._execute("SetConcurrencyLimit", tag=tag, limit=limit))["concurrencyLimit"])

    async def read_concurrency_limit(self, tag: str) -> Record:
        return _limit(_found(await self._execute("GetConcurrencyLimit", tag=tag)))

    async def reset_concurrency_limit(self, tag: str) -> None:
        await self._execute("ResetConcurrencyLimit", tag=tag)

    async def delete_concurrency_limit(self, tag: str) -> None:
        await self._execute("DeleteConcurrencyLimit", tag=tag)

    async def subscribe(self, keys: list[str]) -> Listener:
        async with AsyncExitStack() as stack:
            socket = await stack.enter_async_context(self._client.socket())
            await socket.subscribe("ScheduledTaskRuns", taskKeys=keys, prefetch=1)
            return Listener(socket, stack.pop_all())

    async def receive(self, handle: Listener, limit: int, timeout_seconds: float) -> list[str]:
        received: list[str] = []
        while len(received) < limit:
            try:
                async with asyncio.timeout(timeout_seconds):
                    (delivery,) = await handle.socket.deliveries(1)
            except TimeoutError:
                break
            payload = await self._execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])
            (lease,) = payload["leases"]
            if lease["status"] == "HELD":
                received.append(delivery["taskRun"]["id"])
        return received

    async def unsubscribe(self, handle: Listener) -> None:
        await handle.closing.aclose()

    async def _execute(self, operation: str, selector: "type[_AllFields] | None" = None, **variables: Any) -> Any:
        """Execute the operation and return the value of its only root field."""
        return await self._send(_document(operation, selector or _AllFields), variables)

    async def _send(self, query: str, variables: Record) -> Any:
        response = await self._client.http.post("/graphql", json={"query": query, "variables": variables})
        payload = response.json()
        if "errors" not in payload:
            (value,) = payload["data"].values()
            return value
        error = payload["errors"][0]
        if missing_field := re.match(r"Cannot query field '(\w+)' on type 'Query'", error["message"]):
            raise Unsupported(missing_field[1])
        code = error["extensions"]["code"]
        if code not in _KINDS:
            raise AssertionError(f"{code}: {error['message']}")
        # The recorded server reports an unknown reference of a new object as a conflict.
        is_reference = code == "NOT_FOUND" and error["extensions"]["argument"].startswith("input.")
        raise Refused("conflict" if is_reference else _KINDS[code], error["message"])


class _AllFields(Visitor):
    """Replaces every selection of a run or state with all its compared fields."""

    fragments = {"state": "WholeState", "states": "WholeState", "taskRun": "WholeTaskRun", "flowRun": "WholeFlowRun"}

    def enter_field(self, node: FieldNode, *_: Any) -> FieldNode | None:
        fragment = self.fragments.get(node.name.value)
        if fragment is None or node.selection_set is None:
            return None
        spread = FragmentSpreadNode(name=NameNode(value=fragment), directives=())
        selection = SelectionSetNode(selections=(spread,))
        return FieldNode(
            name=node.name, alias=node.alias, arguments=node.arguments, directives=(), selection_set=selection
        )

    def enter_fragment_definition(self, *_: Any) -> object:
        """Remove the fragments of the document, which are no longer used."""
        return REMOVE


class _Unchanged(_AllFields):
    """Keeps the selections of the document: the `states` of a history are not states of a run."""

    fragments = {}


class _StatesOnly(_AllFields):
    """Selects only the states of a task run."""

    fragments = {"taskRun": "TaskRunStates"}


@cache
def _document(operation: str, selector: type[_AllFields]) -> str:
    """Return the document of `queries/` with replaced selections of runs and states."""
    text = print_ast(visit(parse(document(operation)[0]), selector()))
    for name, fragment in _FRAGMENTS.items():
        if f"...{name}" in text:
            text += "\n\n" + fragment
    return text


def _found(value: Record | None) -> Record:
    if value is None:
        raise Refused("not_found")
    return value


_RENAMED = {
    "cache_expiration": "cacheExpiresAt",
    "empirical_policy": "retryPolicy",
    "pause_timeout": "pauseTimeoutAt",
}
"""GraphQL names that do not follow from the names in the recordings."""

_RECORDED_NAMES = {name: recorded for recorded, name in _RENAMED.items()}


def camel(body: Any) -> Any:
    """Return the object with its keys as in GraphQL. Other values are returned unchanged, to be refused by the server."""
    if not isinstance(body, dict):
        return body
    return {
        _RENAMED.get(name) or re.sub(r"_(\w)", lambda match: match[1].upper(), name): value
        for name, value in body.items()
    }


def snake(record: Record) -> Record:
    """Return the object with its keys as in the recordings."""
    return {
        _RECORDED_NAMES.get(name) or re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name): value
        for name, value in record.items()
    }


def _state_input(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    converted = dict(state)
    if "state_details" in converted:
        converted["details"] = camel(converted.pop("state_details"))
    return converted


def _task_run_input(body: Record) -> Record:
    converted = dict(body)
    if isinstance(policy := converted.get("empirical_policy"), dict):
        policy = _policy_input(policy)
        delay = policy.get("retryDelaySeconds")
        if isinstance(delay, int | float):
            policy["retryDelaySeconds"] = [delay]
        converted["empirical_policy"] = policy
    if "state" in converted:
        converted["state"] = _state_input(converted["state"])
    return camel(converted)


def _flow_run_input(body: Record) -> Record:
    converted = dict(body)
    if isinstance(policy := converted.get("empirical_policy"), dict):
        converted["empirical_policy"] = _policy_input(policy)
    if "state" in converted:
        converted["state"] = _state_input(converted["state"])
    return camel(converted)


def _policy_input(policy: Record) -> Record:
    """Replace the deprecated fields of the policy, which apply if their successors are missing or 0."""
    converted = dict(policy)
    for old, new in (("max_retries", "retries"), ("retry_delay_seconds", "retry_delay")):
        value = converted.pop(old, 0)
        if value and not converted.get(new):
            converted[new] = value
    if "retry_delay" in converted:
        converted["retry_delay_seconds"] = converted.pop("retry_delay")
    return camel(converted)


def _state(state: Record) -> Record:
    renamed = dict(state)
    renamed["state_details"] = snake(renamed.pop("details"))
    return renamed


def _run(run: Record) -> Record:
    renamed = snake(run)
    for name in ("total_run_time", "estimated_run_time", "estimated_start_time_delta"):
        renamed[name] = renamed.pop(f"{name}_seconds")
    if renamed["state"] is not None:
        renamed["state"] = _state(renamed["state"])
    if "empirical_policy" in renamed:
        policy = snake(renamed["empirical_policy"])
        policy["retry_delay"] = policy.pop("retry_delay_seconds")
        renamed["empirical_policy"] = policy
    return renamed


def _outcome(payload: Record) -> Record:
    return {
        "status": payload["status"],
        "state": None if payload["state"] is None else _state(payload["state"]),
        "delay_seconds": payload["delaySeconds"],
        "created": payload["stateCreated"],
    }


def _limit(limit: Record) -> Record:
    return {"limit": limit["limit"], "active": [slot["taskRunId"] for slot in limit["slots"]]}
