"""Statements for flows and deployments."""

from collections.abc import Sequence

from sqlalchemy import Text, and_, delete, select

from db.connection import Connection
from db.query.filters import DEPLOYMENT_FIELDS, FLOW_FIELDS
from db.query.pagination import Listing, Selection
from db.records import DeploymentRecord, FlowRecord
from db.row_mapping import insert_statement, record_columns, record_to_row
from db.sql.lists import is_among, unnest_rows
from db.sql.statement import Statement
from db.tables import Id, deployment, flow

_FLOWS = select(*record_columns(flow, FlowRecord))
_BY_ID = Statement(_FLOWS.where(is_among(flow.c.id, "ids")))
_BY_NAME = Statement(_FLOWS.where(is_among(flow.c.name, "names")))
_INSERT = insert_statement(flow, FlowRecord)
_DELETE = Statement(delete(flow).where(is_among(flow.c.id, "ids")))

_DEPLOYMENTS = select(*record_columns(deployment, DeploymentRecord))
_DEPLOYMENTS_BY_ID = Statement(_DEPLOYMENTS.where(is_among(deployment.c.id, "ids")))
_keys = unnest_rows("keys", flow_id=Id, name=Text())
_DEPLOYMENTS_BY_KEY = Statement(
    _DEPLOYMENTS.join(_keys, and_(deployment.c.flow_id == _keys.c.flow_id, deployment.c.name == _keys.c.name))
)
_INSERT_DEPLOYMENT = insert_statement(deployment, DeploymentRecord)
_DELETE_DEPLOYMENTS = Statement(delete(deployment).where(is_among(deployment.c.id, "ids")))


def flows_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, FlowRecord]:
    """Return the existing flows by id."""
    return {row[0]: FlowRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def flows_by_name(connection: Connection, names: Sequence[str]) -> dict[str, FlowRecord]:
    """Return the existing flows by name."""
    found = (FlowRecord(*row) for row in connection.fetch(_BY_NAME, {"names": list(names)}))
    return {record.name: record for record in found}


def insert_flows(connection: Connection, records: Sequence[FlowRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])


def deployments_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, DeploymentRecord]:
    """Return the existing deployments by id."""
    rows = connection.fetch(_DEPLOYMENTS_BY_ID, {"ids": list(ids)})
    return {row[0]: DeploymentRecord(*row) for row in rows}


def delete_flows(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these flows together with their deployments, flow runs, task runs and all states."""
    connection.run(_DELETE, {"ids": list(ids)})


def deployments_by_key(
    connection: Connection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], DeploymentRecord]:
    """Return the existing deployments by flow id and name."""
    rows = connection.fetch(_DEPLOYMENTS_BY_KEY, {"keys": [list(key) for key in keys]})
    found = (DeploymentRecord(*row) for row in rows)
    return {(record.flow_id, record.name): record for record in found}


def insert_deployments(connection: Connection, records: Sequence[DeploymentRecord]) -> None:
    connection.run_many(_INSERT_DEPLOYMENT, [record_to_row(record) for record in records])


def delete_deployments(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these deployments. Their flow runs are kept."""
    connection.run(_DELETE_DEPLOYMENTS, {"ids": list(ids)})


FLOWS = Listing(
    flow, FLOW_FIELDS, Selection(tuple(record_columns(flow, FlowRecord)), flow), lambda row, _: FlowRecord(*row)
)
DEPLOYMENTS = Listing(
    deployment,
    DEPLOYMENT_FIELDS,
    Selection(tuple(record_columns(deployment, DeploymentRecord)), deployment),
    lambda row, _: DeploymentRecord(*row),
)
