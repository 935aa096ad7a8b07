"""Statements about flows and deployments."""

from collections.abc import Sequence

from sqlalchemy import select

from db.connection import Connection
from db.mapping import columns_of, insert_of, row_of
from db.records import DeploymentRecord, FlowRecord
from db.statements import Statement, is_among
from db.tables import deployment, flow

_FLOWS = select(*columns_of(flow, FlowRecord))
_BY_ID = Statement(_FLOWS.where(is_among(flow.c.id, "ids")))
_BY_NAME = Statement(_FLOWS.where(is_among(flow.c.name, "names")))
_INSERT = insert_of(flow, FlowRecord)
_DEPLOYMENTS_BY_ID = Statement(
    select(*columns_of(deployment, DeploymentRecord)).where(is_among(deployment.c.id, "ids"))
)


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
