"""Says each operation of a trace in GraphQL.

The operations are the documents of `queries/`. Where one selects a run or a state, the selection is widened to all that
traces compare, so that one answer tells everything.

Names differ in a few places: the recordings speak snake case, of `state_details` and of durations without their unit;
their policies may use two deprecated fields, which are folded into those that took their place, as the recorded server
did; and where they have one delay for all retries, Runyard has a list of one.
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
        id name taskKey dynamicKey taskVersion cacheKey cacheExpiration tags taskInputs flowRunId
        empiricalPolicy { retries retryDelaySeconds retryJitterFactor }
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
    # Last, since the others use it.
    "WholeState": """fragment WholeState on State {
        id type name timestamp message data
        details {
            flowRunId taskRunId childFlowRunId scheduledTime cacheKey cacheExpiration refreshCache retriable
            transitionId pauseTimeout pauseReschedule pauseKey untrackableResult
        }
    }""",
}

_KINDS = {"BAD_USER_INPUT": "validation", "NOT_FOUND": "not_found", "CONFLICT": "conflict"}

LARGEST_PAGE = 200
"""What the recorded server took for a page where no limit was given."""


@dataclass
class Listener:
    """A subscription on a socket of its own."""

    socket: Socket
    closing: AsyncExitStack


class GraphQLAdapter:
    """Plays traces to a Runyard server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create_flow(self, body: Record) -> str:
        return (await self._ask("CreateFlow", input=camel(body)))["flow"]["id"]

    async def create_deployment(self, body: Record) -> str:
        return (await self._ask("CreateDeployment", input=camel(body)))["deployment"]["id"]

    async def create_flow_run(self, body: Record) -> tuple[Record, bool]:
        body = {name: value for name, value in body.items() if name != "via_deployment"}
        answer = await self._ask("CreateFlowRun", input=_flow_run_input(body))
        return _run(answer["flowRun"]), answer["created"]

    async def read_flow_run(self, id: str) -> Record:
        return _run(_found(await self._ask("GetFlowRun", id=id)))

    async def delete_flow_run(self, id: str) -> None:
        await self._ask("DeleteFlowRun", id=id)

    async def set_flow_run_state(self, id: str, state: Any, force: Any) -> Record:
        return _outcome(await self._ask("SetFlowRunState", id=id, state=_state_input(state), force=force))

    async def create_task_run(self, body: Record) -> tuple[Record, bool]:
        answer = await self._ask("CreateTaskRun", input=_task_run_input(body))
        return _run(answer["taskRun"]), answer["created"]

    async def read_task_run(self, id: str) -> Record:
        return _run(_found(await self._ask("GetTaskRun", id=id)))

    async def update_task_run(self, id: str, body: Record) -> None:
        await self._ask("UpdateTaskRun", id=id, input=camel(body))

    async def delete_task_run(self, id: str) -> None:
        await self._ask("DeleteTaskRun", id=id)

    async def set_task_run_state(self, id: str, state: Any, force: Any) -> Record:
        return _outcome(await self._ask("SetTaskRunState", id=id, state=_state_input(state), force=force))

    async def list_task_run_states(self, id: str) -> list[Record]:
        run = await self._ask("GetTaskRun", selecting=_States, id=id)
        return [] if run is None else [_state(state) for state in run["states"]]

    async def filter_task_runs(self, body: Record) -> list[Record]:
        limit = body.get("limit")
        page = await self._ask(
            "ListTaskRuns",
            filter=filter_input(body),
            sort=body.get("sort"),
            first=LARGEST_PAGE if limit is None else limit,
            offset=body.get("offset"),
        )
        return [{"id": run["id"], "name": run["name"]} for run in page["nodes"]]

    async def count_task_runs(self, body: Record) -> int:
        return await self._ask("CountTaskRuns", filter=filter_input(body))

    async def task_run_history(self, body: Record) -> list[Record]:
        return await self._ask(
            "GetTaskRunHistory",
            selecting=_AsItIs,
            start=body["start"],
            end=body["end"],
            intervalSeconds=body["interval_seconds"],
            filter=filter_input(body),
        )

    async def create_concurrency_limit(self, tag: Any, limit: Any) -> Record:
        return _limit(await self._ask("CreateConcurrencyLimit", tag=tag, limit=limit))

    async def read_concurrency_limit(self, tag: str) -> Record:
        return _limit(_found(await self._ask("GetConcurrencyLimit", tag=tag)))

    async def reset_concurrency_limit(self, tag: str) -> None:
        await self._ask("ResetConcurrencyLimit", tag=tag)

    async def delete_concurrency_limit(self, tag: str) -> None:
        await self._ask("DeleteConcurrencyLimit", tag=tag)

    async def subscribe(self, keys: list[str]) -> Listener:
        async with AsyncExitStack() as stack:
            socket = await stack.enter_async_context(self._client.socket())
            await socket.subscribe("ScheduledTaskRuns", taskKeys=keys, prefetch=1)
            return Listener(socket, stack.pop_all())

    async def receive(self, handle: Listener, most: int, patience: float) -> list[str]:
        received: list[str] = []
        while len(received) < most:
            try:
                async with asyncio.timeout(patience):
                    (delivery,) = await handle.socket.deliveries(1)
            except TimeoutError:
                break
            (lease,) = await self._ask("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])
            if lease["status"] == "HELD":
                received.append(delivery["taskRun"]["id"])
        return received

    async def unsubscribe(self, handle: Listener) -> None:
        await handle.closing.aclose()

    async def _ask(self, operation: str, selecting: "type[_Whole] | None" = None, **variables: Any) -> Any:
        """The value of the operation's one root field."""
        return await self._send(_document(operation, selecting or _Whole), variables)

    async def _send(self, query: str, variables: Record) -> Any:
        response = await self._client.http.post("/graphql", json={"query": query, "variables": variables})
        answer = response.json()
        if "errors" not in answer:
            (value,) = answer["data"].values()
            return value
        error = answer["errors"][0]
        if lack := re.match(r"Cannot query field '(\w+)' on type 'Query'", error["message"]):
            raise Unsupported(lack[1])
        code = error["extensions"]["code"]
        if code not in _KINDS:
            raise AssertionError(f"{code}: {error['message']}")
        raise Refused(_KINDS[code], error["message"])


class _Whole(Visitor):
    """Selects the whole of every run and state that the document selects something of."""

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
        """The document's own fragments have lost their places."""
        return REMOVE


class _AsItIs(_Whole):
    """Selects what the document does: the `states` of a history are no states."""

    fragments = {}


class _States(_Whole):
    """Selects the states of a task run alone."""

    fragments = {"taskRun": "TaskRunStates"}


@cache
def _document(operation: str, selecting: type[_Whole]) -> str:
    """The document of `queries/` with another selection of runs and states."""
    text = print_ast(visit(parse(document(operation)[0]), selecting()))
    for name, fragment in _FRAGMENTS.items():
        if f"...{name}" in text:
            text += "\n\n" + fragment
    return text


def _found(value: Record | None) -> Record:
    if value is None:
        raise Refused("not_found")
    return value


def camel(body: Any) -> Any:
    """The same object with its own names in camel case; what is no object stays, to be refused."""
    if not isinstance(body, dict):
        return body
    return {re.sub(r"_(\w)", lambda match: match[1].upper(), name): value for name, value in body.items()}


def snake(record: Record) -> Record:
    return {re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name): value for name, value in record.items()}


def _state_input(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    sent = dict(state)
    if "state_details" in sent:
        sent["details"] = camel(sent.pop("state_details"))
    return sent


def _task_run_input(body: Record) -> Record:
    sent = dict(body)
    if isinstance(policy := sent.get("empirical_policy"), dict):
        policy = _policy_input(policy)
        delay = policy.get("retryDelaySeconds")
        if isinstance(delay, int | float):
            policy["retryDelaySeconds"] = [delay]
        sent["empirical_policy"] = policy
    if "state" in sent:
        sent["state"] = _state_input(sent["state"])
    return camel(sent)


def _flow_run_input(body: Record) -> Record:
    sent = dict(body)
    if isinstance(policy := sent.get("empirical_policy"), dict):
        sent["empirical_policy"] = _policy_input(policy)
    if "state" in sent:
        sent["state"] = _state_input(sent["state"])
    return camel(sent)


def _policy_input(policy: Record) -> Record:
    """The policy without its deprecated fields, which count where the new ones say nothing or 0."""
    sent = dict(policy)
    for old, new in (("max_retries", "retries"), ("retry_delay_seconds", "retry_delay")):
        given = sent.pop(old, 0)
        if given and not sent.get(new):
            sent[new] = given
    if "retry_delay" in sent:
        sent["retry_delay_seconds"] = sent.pop("retry_delay")
    return camel(sent)


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


def _outcome(answer: Record) -> Record:
    return {
        "status": answer["status"],
        "state": None if answer["state"] is None else _state(answer["state"]),
        "delay_seconds": answer["delaySeconds"],
        "created": answer["created"],
    }


def _limit(limit: Record) -> Record:
    return {"limit": limit["limit"], "active": limit["activeSlots"]}
