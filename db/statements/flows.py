"""Statements about flows and deployments."""

from collections.abc import Sequence

from sqlalchemy import Text, and_, delete, select

from db.connection import Connection
from db.query.filters import DEPLOYMENT_FIELDS, FLOW_FIELDS
from db.query.pagination import Listing, Selection
from db.records import DeploymentRecord, FlowRecord
from db.row_mapping import columns_of, insert_of, row_of
from db.sql.dialects import is_among, rows_of
from db.sql.statement import Statement
from db.tables import Id, deployment, flow

_FLOWS = select(*columns_of(flow, FlowRecord))
_BY_ID = Statement(_FLOWS.where(is_among(flow.c.id, "ids")))
_BY_NAME = Statement(_FLOWS.where(is_among(flow.c.name, "names")))
_INSERT = insert_of(flow, FlowRecord)
_DELETE = Statement(delete(flow).where(is_among(flow.c.id, "ids")))

_DEPLOYMENTS = select(*columns_of(deployment, DeploymentRecord))
_DEPLOYMENTS_BY_ID = Statement(_DEPLOYMENTS.where(is_among(deployment.c.id, "ids")))
_keys = rows_of("keys", flow_id=Id, name=Text())
_DEPLOYMENTS_BY_KEY = Statement(
    _DEPLOYMENTS.join(_keys, and_(deployment.c.flow_id == _keys.c.flow_id, deployment.c.name == _keys.c.name))
)
_INSERT_DEPLOYMENT = insert_of(deployment, DeploymentRecord)
_DELETE_DEPLOYMENTS = Statement(delete(deployment).where(is_among(deployment.c.id, "ids")))


def flows_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, FlowRecord]:
    """The flows that are there, by id."""
    return {row[0]: FlowRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def flows_by_name(connection: Connection, names: Sequence[str]) -> dict[str, FlowRecord]:
    """The flows that are there, by name."""
    found = (FlowRecord(*row) for row in connection.fetch(_BY_NAME, {"names": list(names)}))
    return {record.name: record for record in found}


def insert_flows(connection: Connection, records: Sequence[FlowRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])


def deployments_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, DeploymentRecord]:
    """The deployments that are there, by id."""
    rows = connection.fetch(_DEPLOYMENTS_BY_ID, {"ids": list(ids)})
    return {row[0]: DeploymentRecord(*row) for row in rows}


def delete_flows(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these flows with their deployments, flow runs, task runs and all states."""
    connection.run(_DELETE, {"ids": list(ids)})


def deployments_by_key(
    connection: Connection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], DeploymentRecord]:
    """The deployments that are there, by flow id and name."""
    rows = connection.fetch(_DEPLOYMENTS_BY_KEY, {"keys": [list(key) for key in keys]})
    found = (DeploymentRecord(*row) for row in rows)
    return {(record.flow_id, record.name): record for record in found}


def insert_deployments(connection: Connection, records: Sequence[DeploymentRecord]) -> None:
    connection.run_many(_INSERT_DEPLOYMENT, [row_of(record) for record in records])


def delete_deployments(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these deployments; the flow runs that came from them stay."""
    connection.run(_DELETE_DEPLOYMENTS, {"ids": list(ids)})


FLOWS = Listing(
    flow, FLOW_FIELDS, Selection(tuple(columns_of(flow, FlowRecord)), flow), lambda row, _: FlowRecord(*row)
)
DEPLOYMENTS = Listing(
    deployment,
    DEPLOYMENT_FIELDS,
    Selection(tuple(columns_of(deployment, DeploymentRecord)), deployment),
    lambda row, _: DeploymentRecord(*row),
)
