"""Build runs, proposals and transitions as values, without a database."""

from typing import Any, TypeVar

from db.enums import StateType
from db.records import FlowRunRecord, JsonText, StateDetails, StateRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import format_timestamp, seconds_after
from resolvers.orchestration.transition import FlowRunFacts, ProposedState, Transition
from tests.clock import START

Run = TypeVar("Run", TaskRunRecord, FlowRunRecord)

NEW_PAUSE_KEY = "01a206b2-304f-7000-b2ee-99ddb7de4877"
"""The key of a pause that is proposed without one."""

NOW = format_timestamp(START)
"""The time at which the transitions are decided."""


def in_seconds(seconds: float) -> str:
    """Return the timestamp `seconds` after NOW, or before it if negative."""
    return seconds_after(NOW, seconds)


def task_run(
    state: StateType | None = None,
    *,
    state_name: str | None = None,
    since: str = NOW,
    data: JsonText | None = None,
    details: StateDetails | None = None,
    **overrides: Any,
) -> TaskRunRecord:
    """Return a background run that entered this state at `since`; `overrides` sets other fields of a new run."""
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
    return _in_state(run, state, state_name, since, data, details, overrides)


def flow_run(
    state: StateType | None = None,
    *,
    state_name: str | None = None,
    since: str = NOW,
    data: JsonText | None = None,
    details: StateDetails | None = None,
    **overrides: Any,
) -> FlowRunRecord:
    """Return a flow run, with the same arguments as `task_run`."""
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
    return _in_state(run, state, state_name, since, data, details, overrides)


def propose(
    type: StateType,
    *,
    name: str | None = None,
    message: str | None = None,
    data: JsonText | None = None,
    **details: Any,
) -> ProposedState:
    """Return a proposed state of this type, with its default name unless `name` is given."""
    return ProposedState(type, type.default_name if name is None else name, message, data, StateDetails(**details))


def transition(
    run: TaskRunRecord | FlowRunRecord, proposed: ProposedState | StateType, *, now: str = NOW, **facts: Any
) -> Transition:
    """Return the transition of this run to the proposed state, with these facts."""
    proposed = propose(proposed) if isinstance(proposed, StateType) else proposed
    return Transition(run, proposed, now, **{"new_pause_key": NEW_PAUSE_KEY, **facts})


def flow_run_facts(state: StateType | None, *, run_count: int = 1, **facts: Any) -> FlowRunFacts:
    """Return the facts about a flow run that the rules of its task runs read."""
    return FlowRunFacts(state, run_count, **facts)


def _identity(name: str) -> dict[str, Any]:
    return {
        "id": new_id(NOW),
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
    overrides: dict[str, Any],
) -> Run:
    if type is not None:
        name = type.default_name if name is None else name
        run.state = StateRecord(
            new_id(NOW), run.id, type, name, since, None, data, (details or StateDetails()).to_json(), None
        )
        run.state_id, run.state_type, run.state_name, run.state_timestamp = run.state.id, type, name, since
    for field, value in overrides.items():
        assert hasattr(run, field), field
        setattr(run, field, value)
    return run
