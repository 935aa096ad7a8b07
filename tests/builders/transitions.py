"""Runs, proposals and transitions as values: nothing here is stored."""

from typing import Any, TypeVar

from db.enums import StateType
from db.records import FlowRunRecord, JsonText, StateDetails, StateRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import instant, seconds_after
from resolvers.orchestration.transition import FlowRunFacts, ProposedState, Transition
from tests.clock import START

Run = TypeVar("Run", TaskRunRecord, FlowRunRecord)

NOW = instant(START)
"""When the transitions here are decided."""


def in_seconds(seconds: float) -> str:
    """The instant `seconds` from NOW; before it, if negative."""
    return seconds_after(NOW, seconds)


def task_run(
    state: StateType | None = None,
    *,
    state_name: str | None = None,
    since: str = NOW,
    data: JsonText | None = None,
    details: StateDetails | None = None,
    **different: Any,
) -> TaskRunRecord:
    """A background run that is in this state since `since`, and otherwise as new, but for what is `different`."""
    run = TaskRunRecord(
        **_identity("task-run"),
        task_key="t",
        dynamic_key="1",
        flow_run_id=None,
        task_version=None,
        cache_key=None,
        cache_expiration=None,
        retries=None,
        retry_delay_seconds_json=None,
        retry_jitter_factor=None,
        task_inputs="{}",
        parameters=None,
        flow_run_run_count=0,
    )
    return _in_state(run, state, state_name, since, data, details, different)


def flow_run(
    state: StateType | None = None,
    *,
    state_name: str | None = None,
    since: str = NOW,
    data: JsonText | None = None,
    details: StateDetails | None = None,
    **different: Any,
) -> FlowRunRecord:
    """As `task_run`, a flow run."""
    run = FlowRunRecord(
        **_identity("flow-run"),
        flow_id="the flow",
        deployment_id=None,
        work_queue_name=None,
        flow_version=None,
        idempotency_key=None,
        parameters="{}",
        context="{}",
        retries=None,
        retry_delay_seconds=None,
        pause_keys_json="[]",
        resuming=False,
        parent_task_run_id=None,
    )
    return _in_state(run, state, state_name, since, data, details, different)


def propose(
    type: StateType,
    *,
    name: str | None = None,
    message: str | None = None,
    data: JsonText | None = None,
    **details: Any,
) -> ProposedState:
    """A proposal of a state of this type."""
    return ProposedState(type, type.default_name if name is None else name, message, data, StateDetails(**details))


def transition(
    run: TaskRunRecord | FlowRunRecord, proposed: ProposedState | StateType, *, now: str = NOW, **facts: Any
) -> Transition:
    """The proposal for this run, with these facts beside."""
    return Transition(run, propose(proposed) if isinstance(proposed, StateType) else proposed, now, **facts)


def under_flow_run(state: StateType | None, *, run_count: int = 1, **facts: Any) -> FlowRunFacts:
    """A flow run, as its task runs' rules see it."""
    return FlowRunFacts(state, run_count, **facts)


def _identity(name: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": name,
        "tags_json": "[]",
        "state_id": None,
        "state_type": None,
        "state_name": None,
        "state_timestamp": None,
        "run_count": 0,
        "expected_start_time": None,
        "next_scheduled_start_time": None,
        "start_time": None,
        "end_time": None,
        "total_run_time_seconds": 0.0,
    }


def _in_state(
    run: Run,
    type: StateType | None,
    name: str | None,
    since: str,
    data: JsonText | None,
    details: StateDetails | None,
    different: dict[str, Any],
) -> Run:
    if type is not None:
        name = type.default_name if name is None else name
        run.state = StateRecord(
            new_id(), run.id, type, name, since, None, data, (details or StateDetails()).to_json(), None
        )
        run.state_id, run.state_type, run.state_name, run.state_timestamp = run.state.id, type, name, since
    for field, value in different.items():
        assert hasattr(run, field), field
        setattr(run, field, value)
    return run
