"""Every field of the root says which scopes of a token open it."""

from graphql import GraphQLObjectType

from db.enums import Scope
from schema.permissions import READ, SCOPES
from schema.root import build_schema

ROOTS = {name: build_schema()._schema.get_type(name) for name in ("Query", "Mutation", "Subscription")}


def fields_of(name: str) -> list[str]:
    root = ROOTS[name]
    assert isinstance(root, GraphQLObjectType)
    return list(root.fields)


def test_every_root_field_has_its_scopes_and_no_other_name_has() -> None:
    fields = [field for root in ROOTS for field in fields_of(root)]

    assert sorted(SCOPES) == sorted(fields), "a new field of the root gets its row in schema/permissions.py"
    assert [field for field in fields if not SCOPES[field]] == []


def test_reading_opens_every_query_and_no_mutation() -> None:
    assert [field for field in fields_of("Query") if not SCOPES[field] >= READ] == []
    assert [field for field in fields_of("Mutation") if Scope.READ in SCOPES[field]] == []


def test_work_opens_what_workers_need_and_nothing_else() -> None:
    assert {field for field, scopes in SCOPES.items() if Scope.WORK in scopes} == {
        "acknowledgeTaskRuns",
        "claimTaskRuns",
        "releaseTaskRuns",
        "renewTaskRunLeases",
        "scheduledTaskRuns",
        "setTaskRunState",
        "setTaskRunStates",
        "taskRun",
    }
