"""Build rows with every variation that filters and sort orders must distinguish: ties, nulls, letter cases, scripts.

The rows are inserted as records because the API cannot create all of these variations.
"""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from sqlite3 import connect

from db.connection import Connection, SQLiteConnection
from db.enums import StateType
from db.records import (
    DeploymentRecord,
    FlowRecord,
    FlowRunRecord,
    QueueEntryRecord,
    StateRecord,
    TaskRunRecord,
    to_json,
)
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_after
from db.statements import flow_runs, flows, queue, states, task_runs
from tests.builders.ids import UNKNOWN_ID
from tests.builders.transitions import NOW

NAMES = (
    "alpha",
    "Alpha",
    "ALPHABET",
    "beta_1",
    "beta%1",
    "beta",
    "É",
    "é",
    "ß",
    "İx",
    "日本",
    "",
    " ",
    "a\\b",
    "😀z",
    "～",
    "a\U0010ffffz",
    "\ud7ff\ue000",
)
TAGS = ("red", "Red", "blue", "", "a,b", '"quoted"', "é", "[]", "1")
KEYS = ("k1", "k2", "K1")
STATES = (*((each.value, each.default_name) for each in list(StateType)[:4]), ("SCHEDULED", "Late"), (None, None))
COUNTS = (0, 1, 2, 7)
SECONDS = (0.0, 0.5, 1.0, 86400.25)
MESSAGES = ("boom", "Boom: disk full", "100%", "", "é")
WORKERS = ("mill-1", "Mill-1", "mill_2", "")
MEMBER_NAMES = ("team", "Team", "", 'a"b', "é", "a.b", "$")
MEMBERS = (
    *(None, True, False, 0, 1, 1.0, 1.5, -1, 2**53 + 1, 2.0**53, "1", "", "true", "é", 'a"b'),
    *([1], {"a": 1}, [], {}),
)
TIMESTAMPS = tuple(seconds_after(NOW, seconds) for seconds in (-3600.0, -0.000001, 0.0, 0.000001, 1.5, 86400.0))


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All inserted rows, by id."""

    flows: dict[str, FlowRecord]
    deployments: dict[str, DeploymentRecord]
    flow_runs: dict[str, FlowRunRecord]
    task_runs: dict[str, TaskRunRecord]
    states: dict[str, StateRecord]
    """Current states of some of the task runs."""
    queue_entries: dict[str, QueueEntryRecord]
    """Queue entries of some of the task runs, by the id of the run."""


def populate(connection: Connection, seed: int = 0, *, task_run_count: int = 60) -> Population:
    """Insert the rows; the same seed gives the same rows, except for their ids."""
    rng = random.Random(seed)  # noqa: S311
    new_flows = [
        FlowRecord(new_id(NOW), NOW, NOW, name, to_json(_tags(rng))) for name in ("alpha", "Alpha-2", "beta_1", "É")
    ]
    new_deployments = [
        DeploymentRecord(
            new_id(NOW), NOW, NOW, name, flow.id, to_json(_tags(rng)), rng.choice(["q1", "Q2", None]), active
        )
        for flow, name, active in zip(new_flows[:3] * 2, NAMES[:6], [True, False] * 3, strict=True)
    ]
    parents = [_task_run(rng, number, None) for number in range(task_run_count // 4)]
    new_flow_runs = [_flow_run(rng, number, new_flows, new_deployments, parents) for number in range(12)]
    within = [rng.choice(new_flow_runs).id for _ in range(task_run_count - len(parents))]
    runs = [_task_run(rng, 1000 + number, flow_run_id) for number, flow_run_id in enumerate(within)]
    children = [_flow_run(rng, 100 + number, new_flows, new_deployments, runs) for number in range(6)]
    flows.insert_flows(connection, new_flows)
    flows.insert_deployments(connection, new_deployments)
    task_runs.insert_task_runs(connection, parents)
    flow_runs.insert_flow_runs(connection, new_flow_runs)
    task_runs.insert_task_runs(connection, runs)
    flow_runs.insert_flow_runs(connection, children)
    messages = [_state(rng, each) for each in parents + runs if each.state_id is not None]
    states.insert_task_run_states(connection, messages)
    entries = [_queue_entry(rng, each) for each in parents + runs if rng.random() < 0.5]
    queue.insert_queue_entries(connection, entries)
    return Population(
        {each.id: each for each in new_flows},
        {each.id: each for each in new_deployments},
        {each.id: each for each in new_flow_runs + children},
        {each.id: each for each in parents + runs},
        {each.id: each for each in messages},
        {each.task_run_id: each for each in entries},
    )


@contextmanager
def populated(migrated: Path, path: Path) -> Iterator[tuple[SQLiteConnection, Population]]:
    """Yield a connection, inside a transaction, to a populated copy of the database file `migrated` at `path`."""
    copyfile(migrated, path)
    with closing(connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN")
        connection = SQLiteConnection(raw, NOW)
        yield connection, populate(connection)


def _tags(rng: random.Random) -> list[str]:
    return rng.choices(TAGS, k=rng.choice([0, 0, 1, 2, 4]))


def _timestamp(rng: random.Random) -> str | None:
    return rng.choice([None, *TIMESTAMPS])


def _task_run(rng: random.Random, number: int, flow_run_id: str | None) -> TaskRunRecord:
    type, name = rng.choice(STATES)
    return TaskRunRecord(
        id=new_id(NOW),
        created=rng.choice(TIMESTAMPS),
        updated=NOW,
        name=rng.choice(NAMES),
        tags_json=to_json(_tags(rng)),
        state_id=None if type is None else new_id(NOW),
        state_type=None if type is None else StateType(type),
        state_name=name,
        state_timestamp=None if type is None else rng.choice(TIMESTAMPS),
        run_count=rng.choice(COUNTS),
        expected_start_time=_timestamp(rng),
        next_scheduled_start_time=_timestamp(rng),
        start_time=_timestamp(rng),
        end_time=_timestamp(rng),
        total_run_time_seconds=rng.choice(SECONDS),
        task_key=rng.choice(KEYS),
        dynamic_key=str(number),
        flow_run_id=flow_run_id,
        task_version=None,
        cache_key=None,
        cache_expiration=None,
        retries=None,
        retry_delay_seconds_json=None,
        retry_jitter_factor=None,
        task_inputs="{}",
        parameters=None,
        flow_run_run_count=0,
        metadata=_metadata(rng),
    )


def _metadata(rng: random.Random) -> str | None:
    if rng.random() < 0.2:
        return None
    return to_json({name: rng.choice(MEMBERS) for name in rng.sample(MEMBER_NAMES, rng.choice([0, 1, 2, 4]))})


def _state(rng: random.Random, run: TaskRunRecord) -> StateRecord:
    assert run.state_id is not None
    assert run.state_type is not None
    return StateRecord(
        id=run.state_id,
        run_id=run.id,
        type=run.state_type,
        name=run.state_name or "",
        timestamp=run.state_timestamp or NOW,
        message=rng.choice([None, *MESSAGES]),
        data=None,
        details_json="{}",
        transition_id=None,
    )


def _queue_entry(rng: random.Random, run: TaskRunRecord) -> QueueEntryRecord:
    worker_name = rng.choice([None, *WORKERS])
    is_leased = worker_name is not None or rng.random() < 0.5
    return QueueEntryRecord(
        task_run_id=run.id,
        task_key=run.task_key,
        is_retry=False,
        available_at=NOW,
        attempt=int(is_leased),
        lease_id=new_id(NOW) if is_leased else None,
        lease_seconds=60.0 if is_leased else None,
        lease_expires_at=seconds_after(NOW, 60) if is_leased else None,
        is_acknowledged=is_leased,
        worker_name=worker_name,
    )


def _flow_run(
    rng: random.Random,
    number: int,
    new_flows: list[FlowRecord],
    new_deployments: list[DeploymentRecord],
    parents: list[TaskRunRecord],
) -> FlowRunRecord:
    type, name = rng.choice(STATES)
    # The second id belongs to a deleted deployment.
    deployment_ids = [None, UNKNOWN_ID, *(each.id for each in new_deployments)]
    return FlowRunRecord(
        id=new_id(NOW),
        created=rng.choice(TIMESTAMPS),
        updated=NOW,
        name=rng.choice(NAMES),
        tags_json=to_json(_tags(rng)),
        state_id=None,
        state_type=None if type is None else StateType(type),
        state_name=name,
        state_timestamp=None,
        run_count=0,
        expected_start_time=_timestamp(rng),
        next_scheduled_start_time=_timestamp(rng),
        start_time=_timestamp(rng),
        end_time=_timestamp(rng),
        total_run_time_seconds=0.0,
        flow_id=rng.choice(new_flows).id,
        deployment_id=rng.choice(deployment_ids),
        work_queue_name=rng.choice(["q1", "Q1", "q_2", None]),
        flow_version=rng.choice(["v1", "V1", None]),
        idempotency_key=rng.choice([f"i{number}", None]),
        parameters="{}",
        context="{}",
        retries=None,
        retry_delay_seconds=None,
        pause_keys_json="[]",
        resuming=False,
        parent_task_run_id=rng.choice([None, rng.choice(parents).id]),
    )
