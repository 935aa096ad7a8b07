"""Records the rows that the server writes for a change, by executing its operations on a scratch database.

Only the INSERT, UPDATE and DELETE statements are recorded: any server that stores the same data must execute them.
"""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from db import migrations
from db.connection import NOTHING, Row, SQLiteConnection
from db.enums import StateType
from db.records import ConcurrencyLimitRecord, TaskRunPolicy
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement
from db.statements import concurrency_limits
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from resolvers.delivery.leases import acknowledge_leases
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewFlow, create_flows
from resolvers.orchestration.transition import ProposedState
from resolvers.task_runs import NewTaskRun, create_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states

Calls = list[tuple[str, Any]]
"""The statements of one transaction, as `benchmarks.bare` takes them."""


@dataclass(slots=True)
class RecordingConnection(SQLiteConnection):
    """A connection that records its writes."""

    written: list[tuple[Statement, Parameters]] = field(default_factory=list[tuple[Statement, Parameters]])

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.written.append((statement, parameters))
        return SQLiteConnection.run(self, statement, parameters)

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.written.append((statement, parameters))
        return SQLiteConnection.update_returning(self, statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        self.written += [(statement, row) for row in rows]
        SQLiteConnection.run_many(self, statement, rows)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Generates changes for a database in which the flow run `flow_run_id` is RUNNING and one tag is limited."""

    connection: RecordingConnection
    for_sqlite: bool
    flow_run_id: str

    def create_transactions(self, count: int, new: dict[str, Any], type: StateType) -> tuple[list[str], list[Calls]]:
        """Return the ids of `count` new runs, and the transaction that creates each."""
        ids, transactions = list[str](), list[Calls]()
        for _ in range(count):
            run = NewTaskRun(dynamic_key=f"bare-{uuid4()}", **new, state=_proposed(type))
            (created,) = create_task_runs(self.connection, [run])
            assert not isinstance(created, Exception), created
            ids.append(created.task_run.id)
            transactions.append(self._take_calls())
        return ids, transactions

    def transition_transactions(self, ids: Sequence[str], type: StateType) -> list[Calls]:
        """Return the transactions that set the state of each run."""
        transactions = list[Calls]()
        for id in ids:
            (outcome,) = set_task_run_states(self.connection, [StateChange(id, _proposed(type))])
            assert not isinstance(outcome, Exception), outcome
            assert outcome.state_created, outcome
            transactions.append(self._take_calls())
        return transactions

    def delivery_transactions(self, task_key: str, count: int) -> list[Calls]:
        """Return, for each of `count` waiting runs, the transaction that leases it and the one that acknowledges it."""
        transactions = list[Calls]()
        request = ClaimRequest([Demand(1, frozenset({task_key}), 1, 60.0, None)], [task_key], 30.0)
        for _ in range(count):
            (claim,) = claim_due_runs(self.connection, [request])
            assert isinstance(claim, Claim), claim
            transactions.append(self._take_calls())
            acknowledge_leases(self.connection, [each.lease_id for each in claim.deliveries])
            transactions.append(self._take_calls())
        return transactions

    def batch_transactions(self, task_key: str, size: int) -> list[Calls]:
        """Return the transactions of one batch: create `size` runs, claim and start them, complete them."""
        proposed = _proposed(StateType.SCHEDULED)
        runs = [NewTaskRun(task_key, f"bare-{uuid4()}", tags=[], state=proposed) for _ in range(size)]
        create_task_runs(self.connection, runs)
        transactions = [self._take_calls()]
        demand = Demand(1, frozenset({task_key}), size, 60.0, None, starts=True)
        (claim,) = claim_due_runs(self.connection, [ClaimRequest([demand], [task_key], 30.0)])
        assert isinstance(claim, Claim), claim
        assert len(claim.deliveries) == size, claim
        transactions.append(self._take_calls())
        changes = [
            StateChange(each.task_run.id, _proposed(StateType.COMPLETED), lease_id=each.lease_id)
            for each in claim.deliveries
        ]
        for outcome in set_task_run_states(self.connection, changes):
            assert not isinstance(outcome, Exception), outcome
            assert outcome.state_created, outcome
        transactions.append(self._take_calls())
        return transactions

    def _take_calls(self) -> Calls:
        calls: Calls = []
        for statement, parameters in self.connection.written:
            if self.for_sqlite:
                calls.append((statement.for_sqlite.text, statement.for_sqlite.bind_by_name(parameters)))
            else:
                calls.append((statement.for_postgresql.text, statement.for_postgresql.bind_by_position(parameters)))
        self.connection.written.clear()
        return calls


@contextmanager
def scratch(flow_run_id: str, limit: ConcurrencyLimitRecord, *, for_sqlite: bool) -> Generator[Scratch]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scratch.db"
        migrations.upgrade_sqlite(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("BEGIN")
            connection = RecordingConnection(raw, format_timestamp(datetime.now(UTC)))
            (flow,) = create_flows(connection, [NewFlow("scratch")])
            assert not isinstance(flow, Exception)
            state = _proposed(StateType.RUNNING)
            (made,) = create_flow_runs(connection, [NewFlowRun(flow.flow.id, state=state)])
            assert not isinstance(made, Exception)
            raw.execute("UPDATE flow_run SET id = ?", (flow_run_id,))
            concurrency_limits.insert_limits(connection, [limit])
            connection.written.clear()
            yield Scratch(connection, for_sqlite, flow_run_id)


RETRIED = TaskRunPolicy(retries=3, retry_delay_seconds=[10.0])


def _proposed(type: StateType) -> ProposedState:
    return ProposedState(type, type.default_name)
