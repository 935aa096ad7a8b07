"""Column paths: names for the columns of a run and of its related rows."""

import pytest
from sqlalchemy import select

from db.connection import Row, SQLiteConnection
from db.enums import StateType
from db.query.column_paths import columns_for_flow_runs, columns_for_task_runs
from db.sql.statement import Statement
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewDeployment, NewFlow, create_deployments, create_flows
from tests.builders.rows import make_task_runs, new_task_runs
from tests.builders.transitions import propose


@pytest.fixture
def flow_run_id(connection: SQLiteConnection) -> str:
    """A flow run of the deployment `d` of the flow `f`."""
    (flow,) = create_flows(connection, [NewFlow("f", tags=["x"])])
    assert not isinstance(flow, Exception)
    (deployment,) = create_deployments(connection, [NewDeployment("d", flow.flow.id)])
    assert not isinstance(deployment, Exception)
    new = NewFlowRun(deployment_id=deployment.deployment.id, name="run", state=propose(StateType.RUNNING))
    (created,) = create_flow_runs(connection, [new])
    assert not isinstance(created, Exception)
    return created.flow_run.id


def task_run_rows(connection: SQLiteConnection, *paths: str) -> list[Row]:
    columns, source = columns_for_task_runs(paths)
    return connection.fetch(Statement(select(*columns).select_from(source)))


def test_columns_are_returned_in_the_order_of_their_paths(connection: SQLiteConnection, flow_run_id: str) -> None:
    make_task_runs(connection, new_task_runs(1, flow_run_id=flow_run_id, task_key="key"))

    paths = ("flow_run.flow.name", "task_key", "state.type", "flow_run.state.type", "flow_run.deployment.flow.tags")

    assert task_run_rows(connection, *paths) == [("f", "key", "PENDING", "RUNNING", '["x"]')]


def test_columns_of_a_missing_related_row_are_null(connection: SQLiteConnection) -> None:
    make_task_runs(connection, new_task_runs(1, task_key="key"))

    assert task_run_rows(connection, "task_key", "flow_run.id", "flow_run.flow.name") == [("key", None, None)]


def test_a_table_is_joined_once_and_only_when_a_path_needs_it(connection: SQLiteConnection) -> None:
    _, source = columns_for_task_runs(["state.id", "state.name", "name"])

    assert str(source).split(" ")[:4] == ["task_run", "LEFT", "OUTER", "JOIN"]
    assert str(source).count("JOIN") == 1


def test_flow_runs_have_column_paths(connection: SQLiteConnection, flow_run_id: str) -> None:
    columns, source = columns_for_flow_runs(["deployment.name", "id", "flow.name", "state.name"])

    rows = connection.fetch(Statement(select(*columns).select_from(source)))

    assert rows == [("d", flow_run_id, "f", "Running")]
