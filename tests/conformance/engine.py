"""Execute the steps of a trace and convert the responses to the format of the recordings.

Ids are replaced with symbolic names, timestamps and durations with the types of `matching.py`. After a change, the affected
runs and the slots of all concurrency limits of the trace are read again.
"""

import asyncio
import time
import uuid
from typing import Any

from tests.conformance.adapter import Adapter, Record, Refused
from tests.conformance.matching import (
    MICROSECONDS,
    Comparison,
    Duration,
    GeneratedName,
    Mismatch,
    Times,
    compare_page,
    format_timestamp,
    offset_from_start,
    parse_timestamp,
)
from tests.conformance.traces import Step, Trace

QUIET_SECONDS = 0.5
"""Seconds without a delivery after which a subscriber is assumed to have received all runs."""

_TIMESTAMPS = ("expected_start_time", "next_scheduled_start_time", "start_time", "end_time")
_DURATIONS = ("total_run_time", "estimated_run_time", "estimated_start_time_delta")
_TASK_RUN = [
    "flow_run_id",
    "task_key",
    "dynamic_key",
    "cache_key",
    "task_version",
    "empirical_policy",
    "tags",
    "task_inputs",
    "state_type",
    "state_name",
    "run_count",
    "flow_run_run_count",
]
_FLOW_RUN = [
    "deployment_id",
    "parent_task_run_id",
    "flow_version",
    "idempotency_key",
    "tags",
    "state_type",
    "state_name",
    "run_count",
]
_DETAILS_IDS = ("flow_run_id", "task_run_id", "child_flow_run_id", "transition_id")
_DETAILS_TIMESTAMPS = ("scheduled_time", "cache_expiration", "pause_timeout")
_CHANGES_SLOTS = frozenset(
    [
        "set_task_run_state",
        "create_task_run",
        "delete_task_run",
        "set_flow_run_state",
        "delete_flow_run",
        "create_concurrency_limit",
        "reset_concurrency_limit",
        "delete_concurrency_limit",
    ]
)


class Session:
    """The replay of one trace.

    Each operation of the recordings has a method that takes the step and its concrete inputs, and returns the observation.
    """

    def __init__(self, trace: Trace, adapter: Adapter) -> None:
        self._adapter = adapter
        self._token = f"u{uuid.uuid4().hex[:10]}-"
        self._times = Times(trace.elapsed)
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._state_ids: dict[str, str | None] = {}
        self._parents: dict[str, str] = {}
        self._client_names: dict[str, str] = {}
        self._limits: list[str] = []
        self._subscriptions: dict[str, Any] = {}
        self._page: list[Record] = []
        states = [step["state"] for step in trace.steps if isinstance(step.get("state"), dict)]
        self._messages = {state["message"] for state in states if isinstance(state.get("message"), str)}

    async def play(self, step: Step) -> list[Mismatch]:
        """Execute the step and return the mismatches. Raises Unsupported if the server does not support the operation."""
        observed = await self._observe(step)
        comparison = Comparison(self._times)
        if step["op"] == "filter_task_runs" and "items" in observed and "n" in step["expect"]:
            compare_page(step, observed["items"], [run["name"] for run in self._page], self._ids, comparison)
        else:
            comparison.compare(step["expect"], observed)
        return comparison.mismatches

    async def close(self) -> None:
        for subscription in self._subscriptions.values():
            await self._adapter.unsubscribe(subscription)

    async def _observe(self, step: Step) -> Record:
        started = _now()
        self._times.steps.append((started, started))
        try:
            observed = await getattr(self, "_" + step["op"])(step, await self._inputs(step)) or {}
            observed["ok"] = True
        except Refused as refusal:
            observed = {"error": refusal.kind}
        self._times.steps[-1] = started, _now()
        if step.get("quiet"):
            return {key: observed[key] for key in ("ok", "error") if key in observed}
        if runs := await self._runs_after(step):
            observed["snap"] = runs
        if self._limits and step["op"] in _CHANGES_SLOTS:
            observed["slots"] = {tag: await self._slots(tag) for tag in self._limits}
        self._times.steps[-1] = started, _now()
        return observed

    async def _inputs(self, step: Step) -> Record:
        inputs = {key: value for key, value in step.items() if key not in {"op", "as", "quiet", "expect"}}
        return await self._concrete(inputs)

    async def _concrete(self, value: Any) -> Any:
        """Replace symbols with ids, timestamps and the unique token of this replay."""
        match value:
            case str():
                concrete = self._text(value)
            case list():
                concrete = [await self._concrete(each) for each in value]
            case {"$id": name}:
                concrete = self._id(name)
            case {"$lit": text}:
                concrete = text
            case {"$field": [name, field], **more}:
                concrete = await self._field(name, field, more.get("plus", 0))
            case dict():
                concrete = {self._text(key): await self._concrete(each) for key, each in value.items()}
            case _:
                concrete = value
        return concrete

    def _text(self, text: str) -> str:
        offset = offset_from_start(text)
        return text.replace("{u}", self._token) if offset is None else format_timestamp(self._times.start + offset)

    async def _field(self, name: str, field: str, plus: float) -> str:
        """Return the current value of a run's timestamp field, plus seconds."""
        read = self._adapter.read_flow_run if name.startswith("fr") else self._adapter.read_task_run
        timestamp = parse_timestamp((await read(self._id(name)))[field])
        assert timestamp is not None
        return format_timestamp(timestamp + round(plus * MICROSECONDS))

    def _bind(self, name: str, id: str) -> bool:
        """Bind the name to the id, and return whether the id is new to the trace."""
        self._ids[name] = id
        return self._names.setdefault(id, name) == name

    def _id(self, name: Any) -> str:
        if isinstance(name, dict):
            return name["$lit"]
        if name not in self._ids:
            self._bind(name, str(uuid.uuid4()))
        return self._ids[name]

    def _optional_id(self, name: Any) -> str | None:
        return None if name is None else self._id(name)

    def _symbolic(self, value: Any) -> Any:
        match value:
            case str():
                return self._names.get(value, value.replace(self._token, "{u}"))
            case list():
                return [self._symbolic(each) for each in value]
            case dict():
                return {self._symbolic(key): self._symbolic(each) for key, each in value.items()}
        return value

    def _name(self, id: str) -> str:
        return self._names.get(id, "?")

    def _state(self, state: Record | None) -> Record | None:
        if state is None:
            return None
        details: Record = {}
        for key, value in state["state_details"].items():
            if value is None:
                continue
            if key in _DETAILS_TIMESTAMPS:
                details[key] = parse_timestamp(value)
            else:
                details[key] = self._name(value) if key in _DETAILS_IDS else self._symbolic(value)
        observed = {key: state[key] for key in ("type", "name")} | {"data": self._symbolic(state["data"])}
        observed["details"] = details
        if state["message"] is None or state["message"] in self._messages:
            observed["message"] = state["message"]
        return observed

    def _run(self, run: Record, fields: list[str]) -> Record:
        self._state_ids[run["id"]] = run["state"]["id"] if run["state"] else None
        observed: Record = {key: self._symbolic(run[key]) for key in fields}
        is_client_name = self._client_names.get(run["id"]) == run["name"]
        observed["name"] = self._symbolic(run["name"]) if is_client_name else GeneratedName(run["name"])
        timestamps = {key: parse_timestamp(run[key]) for key in _TIMESTAMPS}
        observed |= timestamps | {key: Duration(run[key]) for key in _DURATIONS}
        observed["state"] = self._state(run["state"])
        observed["order"] = {key: timestamp for key, timestamp in timestamps.items() if timestamp is not None}
        if run["state"]:
            observed["order"]["state.timestamp"] = parse_timestamp(run["state"]["timestamp"])
        return observed

    def _task_run(self, run: Record) -> Record:
        observed = self._run(run, _TASK_RUN)
        observed["cache_expiration"] = parse_timestamp(run["cache_expiration"])
        observed["empirical_policy"] = {
            key: value for key, value in observed["empirical_policy"].items() if value is not None
        }
        return observed

    def _flow_run(self, run: Record) -> Record:
        return self._run(run, _FLOW_RUN)

    def _outcome(self, id: str, outcome: Record) -> Record:
        state, delay = outcome["state"], outcome["delay_seconds"]
        which = "none"
        if state is not None:
            which = "existing" if state["id"] == self._state_ids.get(id) else "new"
            self._state_ids[id] = state["id"]
        assert outcome["created"] == (which == "new"), f"created is {outcome['created']} with a {which} state"
        return {
            "status": outcome["status"],
            "which": which,
            "state": self._state(state),
            "delay": None if delay is None else {"seconds": delay},
        }

    async def _runs_after(self, step: Step) -> Record:
        """Read the runs that the step may have changed."""
        match step:
            case {"op": "set_task_run_state" | "update_task_run", "task_run": str(name)}:
                return {"task_run": await self._task_run_now(name)}
            case {"op": "set_flow_run_state", "flow_run": str(name)} if name in self._ids:
                return {"flow_run": await self._flow_run_now(name)} | await self._parent_now(name)
            case {"op": "create_flow_run", "as": str(name)} if name in self._ids:
                return await self._parent_now(name)
        return {}

    async def _task_run_now(self, name: str) -> Record:
        try:
            return self._task_run(await self._adapter.read_task_run(self._id(name)))
        except Refused as refusal:
            return {"error": refusal.kind}

    async def _flow_run_now(self, name: str) -> Record:
        try:
            return self._flow_run(await self._adapter.read_flow_run(self._id(name)))
        except Refused as refusal:
            return {"error": refusal.kind}

    async def _parent_now(self, name: str) -> Record:
        parent = self._parents.get(name)
        return {"parent_task_run": await self._task_run_now(parent)} if parent else {}

    async def _slots(self, tag: str) -> list[str] | Record:
        try:
            limit = await self._adapter.read_concurrency_limit(tag.replace("{u}", self._token))
        except Refused as refusal:
            return {"error": refusal.kind}
        return self._holders(limit)

    def _holders(self, limit: Record) -> list[str]:
        return sorted(self._name(id) for id in limit["active"])

    async def _sleep(self, step: Step, inputs: Record) -> None:
        await asyncio.sleep(inputs["seconds"])

    async def _create_flow(self, step: Step, inputs: Record) -> None:
        self._bind(step["as"], await self._adapter.create_flow(inputs))

    async def _create_deployment(self, step: Step, inputs: Record) -> None:
        inputs["flow_id"] = self._id(step["flow"])
        del inputs["flow"]
        self._bind(step["as"], await self._adapter.create_deployment(inputs))

    async def _create_flow_run(self, step: Step, inputs: Record) -> Record:
        for key in {"flow", "deployment", "parent_task_run"} & inputs.keys():
            del inputs[key]
            inputs[f"{key}_id"] = self._optional_id(step[key])
        run, created = await self._adapter.create_flow_run(inputs)
        same_as = self._same_as(step, run, created, inputs)
        if step.get("parent_task_run"):
            self._parents[step["as"]] = step["parent_task_run"]
        return {"same_as": same_as, "flow_run": self._flow_run(run)}

    def _same_as(self, step: Step, run: Record, created: bool, inputs: Record) -> str | None:
        """Return the name of the existing run; None for a new run."""
        is_new = self._bind(step["as"], run["id"])
        assert is_new == created, f"created is {created} for {'a new' if is_new else 'an existing'} run"
        if is_new and inputs.get("name"):
            self._client_names[run["id"]] = inputs["name"]
        return None if is_new else self._names[run["id"]]

    async def _read_flow_run(self, step: Step, inputs: Record) -> Record:
        return {"flow_run": self._flow_run(await self._adapter.read_flow_run(self._id(step["flow_run"])))}

    async def _delete_flow_run(self, step: Step, inputs: Record) -> None:
        await self._adapter.delete_flow_run(self._id(step["flow_run"]))

    async def _set_flow_run_state(self, step: Step, inputs: Record) -> Record:
        id = self._id(step["flow_run"])
        outcome = await self._adapter.set_flow_run_state(id, inputs["state"], inputs.get("force", False))
        return self._outcome(id, outcome)

    async def _create_task_run(self, step: Step, inputs: Record) -> Record:
        if "flow_run" in inputs:
            del inputs["flow_run"]
            inputs["flow_run_id"] = self._optional_id(step["flow_run"])
        run, created = await self._adapter.create_task_run(inputs)
        return {"same_as": self._same_as(step, run, created, inputs), "task_run": self._task_run(run)}

    async def _read_task_run(self, step: Step, inputs: Record) -> Record:
        return {"task_run": self._task_run(await self._adapter.read_task_run(self._id(step["task_run"])))}

    async def _update_task_run(self, step: Step, inputs: Record) -> None:
        del inputs["task_run"]
        id = self._id(step["task_run"])
        await self._adapter.update_task_run(id, inputs)
        if inputs.get("name"):
            self._client_names[id] = inputs["name"]

    async def _delete_task_run(self, step: Step, inputs: Record) -> None:
        await self._adapter.delete_task_run(self._id(step["task_run"]))

    async def _set_task_run_state(self, step: Step, inputs: Record) -> Record:
        id = self._id(step["task_run"])
        outcome = await self._adapter.set_task_run_state(id, inputs["state"], inputs.get("force", False))
        return self._outcome(id, outcome)

    async def _list_task_run_states(self, step: Step, inputs: Record) -> Record:
        states = await self._adapter.list_task_run_states(self._id(step["task_run"]))
        return {"states": [self._state(state) for state in states]}

    async def _filter_task_runs(self, step: Step, inputs: Record) -> Record:
        self._page = await self._adapter.filter_task_runs(inputs)
        return {"items": [self._name(run["id"]) for run in self._page]}

    async def _count_task_runs(self, step: Step, inputs: Record) -> Record:
        return {"count": await self._adapter.count_task_runs(inputs)}

    async def _task_run_history(self, step: Step, inputs: Record) -> Record:
        return {"buckets": [self._bucket(bucket) for bucket in await self._adapter.task_run_history(inputs)]}

    def _bucket(self, bucket: Record) -> list[Any]:
        """Return the bounds in seconds from the start of the trace, and the states if there are any."""
        observed: list[Any] = [self._times.seconds_from_start(bucket[name]) for name in ("start", "end")]
        states = [
            {
                "type": state["stateType"],
                "name": state["stateName"],
                "n": state["countRuns"],
                "run_time": Duration.summed(state["sumEstimatedRunTimeSeconds"], state["countRuns"]),
                "lateness": Duration.summed(state["sumEstimatedLatenessSeconds"], state["countRuns"]),
            }
            for state in bucket["states"]
        ]
        return [*observed, sorted(states, key=lambda state: (state["type"], state["name"]))] if states else observed

    async def _create_concurrency_limit(self, step: Step, inputs: Record) -> Record:
        limit = await self._adapter.create_concurrency_limit(inputs["tag"], inputs["limit"])
        if step["tag"] and step["tag"] not in self._limits:
            self._limits.append(step["tag"])
        return {"limit": limit["limit"]}

    async def _read_concurrency_limit(self, step: Step, inputs: Record) -> Record:
        limit = await self._adapter.read_concurrency_limit(inputs["tag"])
        return {"limit": limit["limit"], "active": self._holders(limit)}

    async def _reset_concurrency_limit(self, step: Step, inputs: Record) -> None:
        await self._adapter.reset_concurrency_limit(inputs["tag"])

    async def _delete_concurrency_limit(self, step: Step, inputs: Record) -> None:
        await self._adapter.delete_concurrency_limit(inputs["tag"])

    async def _subscribe(self, step: Step, inputs: Record) -> None:
        self._subscriptions[step["as"]] = await self._adapter.subscribe(inputs["keys"])

    async def _receive(self, step: Step, inputs: Record) -> Record:
        ids = await self._adapter.receive(self._subscriptions[step["sub"]], inputs["max"], QUIET_SECONDS)
        return {"received": [self._name(id) for id in ids]}

    async def _unsubscribe(self, step: Step, inputs: Record) -> None:
        await self._adapter.unsubscribe(self._subscriptions.pop(step["sub"]))


def _now() -> int:
    return time.time_ns() // 1000
