"""Scopes for changing states of task runs: `force`, and a change without a lease, require the scope `write`."""

from collections.abc import AsyncIterator, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from queries import document
from schema.permissions import ROOT_FIELD_SCOPES
from schema.root import build_schema
from schema.state_change_scopes import BATCH_OF_STATE_CHANGES, SINGLE_STATE_CHANGE
from tests.bearer_tokens import bearer_headers, post_query
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.websocket_messages import send_connection_init

Headers = dict[str, str]
Request = tuple[str, dict[str, Any]]
"""A document and its variables."""

RUNNING: dict[str, Any] = {"type": "RUNNING"}
TOKENS = ("work", "read work", "write", "write work")


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


async def execute(server: RunningServer, headers: Headers, operation: str, **variables: Any) -> Any:
    """Execute a document of `queries/` with this token and return the value of its only root field."""
    response = (await post_query(server.client, document(operation)[0], headers, variables=variables)).json()
    assert "errors" not in response, response
    (value,) = response["data"].values()
    return value


async def claim_run(server: RunningServer) -> tuple[str, str]:
    """Create a run, claim it as a worker does, and return its id and the id of its lease."""
    write, work = await bearer_headers(server, "write"), await bearer_headers(server, "work")
    await execute(server, write, "CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
    (delivery,) = (await execute(server, work, "ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    return delivery["taskRun"]["id"], delivery["leaseId"]


async def count_states(server: RunningServer, id: str) -> int:
    run = await execute(server, await bearer_headers(server, "read"), "GetTaskRun", id=id)
    return len(run["states"])


def literal(**values: object) -> str:
    """Return the arguments that are not None as literals."""
    texts = {True: "true", False: "false"}
    return ", ".join(
        f"{name}: {texts[value] if isinstance(value, bool) else value}"
        for name, value in values.items()
        if value is not None
    )


def quoted(lease_id: str | None) -> str | None:
    return None if lease_id is None else f'"{lease_id}"'


def single_literal(id: str, force: bool | None, lease_id: str | None) -> Request:
    arguments = literal(id=f'"{id}"', state="{type: RUNNING}", force=force, leaseId=quoted(lease_id))
    return f"mutation {{ setTaskRunState({arguments}) {{ status }} }}", {}


def single_variables(id: str, force: bool | None, lease_id: str | None) -> Request:
    return document("SetTaskRunState")[0], {"id": id, "state": RUNNING, "force": bool(force), "leaseId": lease_id}


def single_defaults(id: str, force: bool | None, lease_id: str | None) -> Request:
    lease = "null" if lease_id is None else f'"{lease_id}"'
    query = f"""mutation($id: ID!, $force: Boolean! = {literal(force=bool(force))[7:]}, $lease: ID = {lease}) {{
      setTaskRunState(id: $id, state: {{type: RUNNING}}, force: $force, leaseId: $lease) {{ status }}
    }}"""
    return query, {"id": id}


def single_override(id: str, force: bool | None, lease_id: str | None) -> Request:
    query = """mutation($id: ID!, $force: Boolean! = false, $lease: ID = "default") {
      ...Change
    }
    fragment Change on Mutation {
      changed: setTaskRunState(id: $id, state: {type: RUNNING}, force: $force, leaseId: $lease) { status }
    }"""
    return query, {"id": id, "force": bool(force), "lease": lease_id}


def batch_literal(id: str, force: bool | None, lease_id: str | None) -> Request:
    change = literal(taskRunId=f'"{id}"', state="{type: RUNNING}", force=force, leaseId=quoted(lease_id))
    return f"mutation {{ setTaskRunStates(inputs: [{{{change}}}]) {{ results {{ taskRunId }} }} }}", {}


def batch_item_literal(id: str, force: bool | None, lease_id: str | None) -> Request:
    query, variables = batch_literal(id, force, lease_id)
    return query.replace("[", "").replace("]", ""), variables


def change(id: str, force: bool | None, lease_id: str | None) -> dict[str, Any]:
    fields = {"force": force, "leaseId": lease_id}
    return {"taskRunId": id, "state": RUNNING, **{name: value for name, value in fields.items() if value is not None}}


def batch_variable(id: str, force: bool | None, lease_id: str | None) -> Request:
    return document("SetTaskRunStates")[0], {"inputs": [change(id, force, lease_id)]}


def batch_item_as_variable(id: str, force: bool | None, lease_id: str | None) -> Request:
    return document("SetTaskRunStates")[0], {"inputs": change(id, force, lease_id)}


def batch_variable_items(id: str, force: bool | None, lease_id: str | None) -> Request:
    query = """mutation($change: TaskRunStateChangeInput!) {
      setTaskRunStates(inputs: [$change]) { results { taskRunId } }
    }"""
    return query, {"change": change(id, force, lease_id)}


def batch_variable_members(id: str, force: bool | None, lease_id: str | None) -> Request:
    query = """mutation($id: ID!, $force: Boolean! = false, $lease: ID) {
      setTaskRunStates(inputs: [{taskRunId: $id, state: {type: RUNNING}, force: $force, leaseId: $lease}]) {
        results { taskRunId }
      }
    }"""
    return query, {"id": id, "force": bool(force), **({} if lease_id is None else {"lease": lease_id})}


FORMS: list[Callable[[str, bool | None, str | None], Request]] = [
    single_literal,
    single_variables,
    single_defaults,
    single_override,
    batch_literal,
    batch_item_literal,
    batch_variable,
    batch_item_as_variable,
    batch_variable_items,
    batch_variable_members,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_the_work_scope_allows_only_changes_under_a_lease_and_by_the_rules(
    server: RunningServer, form: Callable[[str, bool | None, str | None], Request]
) -> None:
    id, lease_id = await claim_run(server)
    headers = {scopes: await bearer_headers(server, *scopes.split()) for scopes in TOKENS}
    is_batch = BATCH_OF_STATE_CHANGES in form(id, None, None)[0]
    prefix, name = ("inputs.0.", BATCH_OF_STATE_CHANGES) if is_batch else ("", SINGLE_STATE_CHANGE)
    outcomes: dict[tuple[str, bool | None, bool], str | None] = {}
    expected: dict[tuple[str, bool | None, bool], str | None] = {}

    for scopes, force, names_lease in product(TOKENS, (None, False, True), (False, True)):
        query, variables = form(id, force, lease_id if names_lease else None)
        before = await count_states(server, id)
        response = (await post_query(server.client, query, headers[scopes], variables=variables)).json()
        written = await count_states(server, id) - before
        errors = response.get("errors", [])
        assert written == (0 if errors else 1)
        assert [each["extensions"]["code"] for each in errors] == ["FORBIDDEN"] * len(errors)
        outcomes[scopes, force, names_lease] = errors[0]["message"] if errors else None

        present = scopes.replace(" ", " and ")
        needs = f"requires a token with the scope write; this token has {present}."
        argument, use = ("force", "with `force: true`") if force else ("leaseId", "without a `leaseId`")
        is_allowed = "write" in scopes or (names_lease and not force)
        expected[scopes, force, names_lease] = None if is_allowed else f"{prefix}{argument}: {name} {use} {needs}"

    assert outcomes == expected


async def test_one_forbidden_change_prevents_the_whole_operation(server: RunningServer) -> None:
    (first, first_lease), (second, second_lease) = await claim_run(server), await claim_run(server)
    work = await bearer_headers(server, "work")
    allowed, forced = change(first, None, first_lease), change(second, True, second_lease)
    fields = """mutation($allowed: ID!, $allowedLease: ID!, $forbidden: ID!) {
      setTaskRunState(id: $allowed, state: {type: RUNNING}, leaseId: $allowedLease) { status }
      other: setTaskRunState(id: $forbidden, state: {type: CANCELLED}) { status }
    }"""

    responses = [
        await post_query(server.client, document("SetTaskRunStates")[0], work, variables={"inputs": [allowed, forced]}),
        await post_query(
            server.client,
            fields,
            work,
            variables={"allowed": first, "allowedLease": first_lease, "forbidden": second},
        ),
    ]

    errors = [response.json()["errors"] for response in responses]
    assert [[(each["extensions"]["code"], each["extensions"]["argument"]) for each in found] for found in errors] == [
        [("FORBIDDEN", "inputs.1.force")],
        [("FORBIDDEN", "leaseId")],
    ]
    assert [await count_states(server, id) for id in (first, second)] == [1, 1]


async def test_a_worker_without_leases_needs_the_write_scope(server: RunningServer) -> None:
    write, work = await bearer_headers(server, "write"), await bearer_headers(server, "work")
    both = await bearer_headers(server, "write", "work")
    run = await execute(server, write, "CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
    id = run["taskRun"]["id"]
    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, work)
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        (delivery,) = await socket.deliveries(1)
    query, variables = single_variables(id, None, None)

    refused = (await post_query(server.client, query, work, variables=variables)).json()
    allowed = (await post_query(server.client, query, both, variables=variables)).json()

    assert delivery["taskRun"]["id"] == id
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    assert allowed["data"]["setTaskRunState"]["status"] == "ACCEPT"


@SQLITE_ONLY
async def test_a_server_without_tokens_restricts_no_change(tmp_path: Path) -> None:
    async with run_server(tmp_path) as server:
        created = await server.client.execute("CreateTaskRun", input={"taskKey": "t"})
        id = created["taskRun"]["id"]

        result = await server.client.execute("SetTaskRunState", id=id, state=RUNNING, force=True)

    assert result["status"] == "ACCEPT"


@SQLITE_ONLY
def test_every_state_change_that_the_work_scope_permits_is_checked() -> None:
    fields: Any = build_schema()._schema.get_type("Mutation")
    restricted = {
        name
        for name, field in fields.fields.items()
        if "work" in ROOT_FIELD_SCOPES[name]
        and (field.args.keys() & {"force", "leaseId", "state"} or "inputs" in field.args)
    }

    assert restricted == {SINGLE_STATE_CHANGE, BATCH_OF_STATE_CHANGES}


def exchange_variables(id: str, force: bool | None, lease_id: str | None) -> Request:
    return document("ExchangeTaskRuns")[0], {"reports": [change(id, force, lease_id)], "renew": []}


def exchange_literal(id: str, force: bool | None, lease_id: str | None) -> Request:
    report = literal(taskRunId=f'"{id}"', state="{type: RUNNING}", force=force, leaseId=quoted(lease_id))
    return f"mutation {{ exchangeTaskRuns(renew: [], reports: {{{report}}}) {{ results {{ taskRunId }} }} }}", {}


@pytest.mark.parametrize("form", [exchange_variables, exchange_literal], ids=lambda form: form.__name__)
async def test_reports_without_a_lease_or_with_force_require_write_in_an_exchange(
    server: RunningServer, form: Callable[[str, bool | None, str | None], Request]
) -> None:
    id, lease_id = await claim_run(server)
    outcomes: dict[tuple[str, bool | None, bool], str | None] = {}

    for scopes, force, names_lease in product(("work", "write work"), (None, True), (False, True)):
        query, variables = form(id, force, lease_id if names_lease else None)
        before = await count_states(server, id)
        headers = await bearer_headers(server, *scopes.split())
        response = (await post_query(server.client, query, headers, variables=variables)).json()
        errors = response.get("errors", [])
        assert await count_states(server, id) - before == (0 if errors else 1)
        outcomes[scopes, force, names_lease] = errors[0]["message"] if errors else None

    needs = "requires a token with the scope write; this token has work."
    assert outcomes == {
        ("work", None, False): f"reports.0.leaseId: exchangeTaskRuns without a `leaseId` {needs}",
        ("work", None, True): None,
        ("work", True, False): f"reports.0.force: exchangeTaskRuns with `force: true` {needs}",
        ("work", True, True): f"reports.0.force: exchangeTaskRuns with `force: true` {needs}",
        ("write work", None, False): None,
        ("write work", None, True): None,
        ("write work", True, False): None,
        ("write work", True, True): None,
    }


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_an_exchange_requires_the_scope_work(server: RunningServer, scope: str) -> None:
    headers = await bearer_headers(server, scope)

    response = await post_query(
        server.client, document("ExchangeTaskRuns")[0], headers, variables={"reports": [], "renew": []}
    )

    (error,) = response.json()["errors"]
    assert (error["extensions"]["code"], error["message"]) == (
        "FORBIDDEN",
        f"exchangeTaskRuns requires a token with the scope work; this token has {scope}.",
    )
