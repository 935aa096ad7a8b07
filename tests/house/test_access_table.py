"""The permission table: every root field lists the token scopes that allow it."""

from graphql import GraphQLObjectType

from db.enums import Scope
from schema.permissions import READ_SCOPES, ROOT_FIELD_SCOPES
from schema.root import build_schema

ROOT_TYPES = {name: build_schema()._schema.get_type(name) for name in ("Query", "Mutation", "Subscription")}


def fields_of(name: str) -> list[str]:
    root = ROOT_TYPES[name]
    assert isinstance(root, GraphQLObjectType)
    return list(root.fields)


def test_exactly_the_root_fields_have_scopes() -> None:
    fields = [field for root in ROOT_TYPES for field in fields_of(root)]

    assert sorted(ROOT_FIELD_SCOPES) == sorted(fields), "add each new root field to schema/permissions.py"
    assert [field for field in fields if not ROOT_FIELD_SCOPES[field]] == []


def test_the_read_scope_allows_every_query_but_one_and_no_mutation() -> None:
    # The leases that it returns belong to workers.
    assert [field for field in fields_of("Query") if not ROOT_FIELD_SCOPES[field] >= READ_SCOPES] == ["leaseSignals"]
    assert [field for field in fields_of("Mutation") if Scope.READ in ROOT_FIELD_SCOPES[field]] == []


def test_the_work_scope_allows_exactly_what_workers_need() -> None:
    assert {field for field, scopes in ROOT_FIELD_SCOPES.items() if Scope.WORK in scopes} == {
        "acknowledgeTaskRuns",
        "claimTaskRuns",
        "endedTaskRuns",
        "exchangeTaskRuns",
        "leaseSignals",
        "releaseTaskRuns",
        "renewTaskRunLeases",
        "reportTaskRunProgress",
        "scheduledTaskRuns",
        "server",
        "setTaskRunState",
        "setTaskRunStates",
        "taskRun",
        "viewer",
    }
