"""Rows with something of everything that filters and orders have to tell apart: ties, nulls, other cases, other scripts.

They are written as records and not through the API, which would not make all of it.
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
from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord, to_json
from db.runtime.ids import new_id
from db.runtime.timestamps import instant, seconds_after
from db.statements import flow_runs, flows, task_runs
from tests.clock import START

NOW = instant(START)
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
)
TAGS = ("red", "Red", "blue", "", "a,b", '"quoted"', "é", "[]", "1")
KEYS = ("k1", "k2", "K1")
STATES = (*((each.value, each.default_name) for each in list(StateType)[:4]), ("SCHEDULED", "Late"), (None, None))
MOMENTS = tuple(seconds_after(NOW, seconds) for seconds in (-3600.0, -0.000001, 0.0, 0.000001, 1.5, 86400.0))


@dataclass(frozen=True, slots=True)
class Population:
    """All rows, by id."""

    flows: dict[str, FlowRecord]
    deployments: dict[str, DeploymentRecord]
    flow_runs: dict[str, FlowRunRecord]
    task_runs: dict[str, TaskRunRecord]


def populate(connection: Connection, seed: int = 0, *, task_run_count: int = 60) -> Population:
    """The same rows for the same seed, save for their ids."""
    chance = random.Random(seed)  # noqa: S311
    made_flows = [
        FlowRecord(new_id(), NOW, NOW, name, to_json(_tags(chance))) for name in ("alpha", "Alpha-2", "beta_1", "É")
    ]
    made_deployments = [
        DeploymentRecord(
            new_id(), NOW, NOW, name, flow.id, to_json(_tags(chance)), chance.choice(["q1", "Q2", None]), active
        )
        for flow, name, active in zip(made_flows[:3] * 2, NAMES[:6], [True, False] * 3, strict=True)
    ]
    parents = [_task_run(chance, number, None) for number in range(task_run_count // 4)]
    made_flow_runs = [_flow_run(chance, number, made_flows, made_deployments, parents) for number in range(12)]
    within = [chance.choice(made_flow_runs).id for _ in range(task_run_count - len(parents))]
    runs = [_task_run(chance, 1000 + number, flow_run_id) for number, flow_run_id in enumerate(within)]
    children = [_flow_run(chance, 100 + number, made_flows, made_deployments, runs) for number in range(6)]
    flows.insert_flows(connection, made_flows)
    flows.insert_deployments(connection, made_deployments)
    task_runs.insert_task_runs(connection, parents)
    flow_runs.insert_flow_runs(connection, made_flow_runs)
    task_runs.insert_task_runs(connection, runs)
    flow_runs.insert_flow_runs(connection, children)
    return Population(
        {each.id: each for each in made_flows},
        {each.id: each for each in made_deployments},
        {each.id: each for each in made_flow_runs + children},
        {each.id: each for each in parents + runs},
    )


@contextmanager
def populated(migrated: Path, path: Path) -> Iterator[tuple[SQLiteConnection, Population]]:
    """A connection to a copy of the migrated file at `path`, inside a transaction, with the rows in it."""
    copyfile(migrated, path)
    with closing(connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN")
        connection = SQLiteConnection(raw, NOW)
        yield connection, populate(connection)


def _tags(chance: random.Random) -> list[str]:
    return chance.choices(TAGS, k=chance.choice([0, 0, 1, 2, 4]))


def _moment(chance: random.Random) -> str | None:
    return chance.choice([None, *MOMENTS])


def _task_run(chance: random.Random, number: int, flow_run_id: str | None) -> TaskRunRecord:
    type, name = chance.choice(STATES)
    return TaskRunRecord(
        id=new_id(),
        created=chance.choice(MOMENTS),
        updated=NOW,
        name=chance.choice(NAMES),
        tags_json=to_json(_tags(chance)),
        state_id=None,
        state_type=None if type is None else StateType(type),
        state_name=name,
        state_timestamp=None,
        run_count=0,
        expected_start_time=_moment(chance),
        next_scheduled_start_time=_moment(chance),
        start_time=_moment(chance),
        end_time=_moment(chance),
        total_run_time_seconds=0.0,
        task_key=chance.choice(KEYS),
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
    )


def _flow_run(
    chance: random.Random,
    number: int,
    made_flows: list[FlowRecord],
    made_deployments: list[DeploymentRecord],
    parents: list[TaskRunRecord],
) -> FlowRunRecord:
    type, name = chance.choice(STATES)
    # One of the deployments is not there any more.
    deployment_ids = [None, "01a206b2-304f-7000-b2ee-99ddb7de4877", *(each.id for each in made_deployments)]
    return FlowRunRecord(
        id=new_id(),
        created=chance.choice(MOMENTS),
        updated=NOW,
        name=chance.choice(NAMES),
        tags_json=to_json(_tags(chance)),
        state_id=None,
        state_type=None if type is None else StateType(type),
        state_name=name,
        state_timestamp=None,
        run_count=0,
        expected_start_time=_moment(chance),
        next_scheduled_start_time=_moment(chance),
        start_time=_moment(chance),
        end_time=_moment(chance),
        total_run_time_seconds=0.0,
        flow_id=chance.choice(made_flows).id,
        deployment_id=chance.choice(deployment_ids),
        work_queue_name=chance.choice(["q1", "Q1", "q_2", None]),
        flow_version=chance.choice(["v1", "V1", None]),
        idempotency_key=chance.choice([f"i{number}", None]),
        parameters="{}",
        context="{}",
        retries=None,
        retry_delay_seconds=None,
        pause_keys_json="[]",
        resuming=False,
        parent_task_run_id=chance.choice([None, chance.choice(parents).id]),
    )
