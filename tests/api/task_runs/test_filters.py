"""Each filter operator of each field matches exactly the expected objects."""

from typing import Any

import pytest

from tests.builders.api_runs import create_deployment, create_flow, create_flow_run, create_task_run, set_task_run_state
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client

LATE = {"type": "SCHEDULED", "name": "Late", "details": {"scheduledTime": "2031-01-01T00:00:00Z"}}


@pytest.fixture
async def ids(client: Client) -> dict[str, str]:
    """Create the objects to filter and return their ids by name.

    Flows F (with the deployments D and E) and G; flow runs f (of D, with a parent), g (of G) and h (of a deleted
    deployment); task runs A and B (of f), C (of g, the parent of f), and the background runs X and Y.
    """
    ids = {"F": await create_flow(client, "F", tags=["x", "y"]), "G": await create_flow(client, "G")}
    deployed = {"tags": ["prod"], "workQueueName": "q1", "isScheduleActive": True}
    ids["D"] = await create_deployment(client, ids["F"], "D", **deployed)
    ids["E"] = await create_deployment(client, ids["F"], "E", isScheduleActive=False)
    ids["gone"] = await create_deployment(client, ids["G"], "gone")
    ids["g"] = await create_flow_run(client, "RUNNING", name="g", flowId=ids["G"], flowVersion="v1", tags=["x"])
    ids["C"] = await create_task_run(client, name="C", taskKey="mail", flowRunId=ids["g"], tags=["red", "blue"])
    subflow = {"deploymentId": ids["D"], "parentTaskRunId": ids["C"], "idempotencyKey": "once"}
    ids["f"] = await create_flow_run(client, LATE, name="f", **subflow)
    ids["h"] = await create_flow_run(client, "RUNNING", name="h", deploymentId=ids["gone"])
    await client.execute("DeleteDeployment", id=ids["gone"])
    ids["A"] = await create_task_run(
        client,
        name="A",
        taskKey="scan",
        dynamicKey="A-1",
        flowRunId=ids["f"],
        tags=["red"],
        metadata={"team": "search", "size": 2},
    )
    ids["B"] = await create_task_run(client, "RUNNING", name="B", taskKey="Mail", flowRunId=ids["f"])
    scheduled = {"type": "SCHEDULED", "details": LATE["details"]}
    metadata = {"team": "search", "urgent": True, "owner": None, "size": [2]}
    ids["X"] = await create_task_run(client, scheduled, name="X", taskKey="50%_off", tags=["Red"], metadata=metadata)
    ids["Y"] = await create_task_run(client, {"type": "SCHEDULED", "name": "Soon"}, name="Y", taskKey="mailing")
    await set_task_run_state(client, ids["B"], "COMPLETED", force=True, message="No disk was full")
    return ids


def with_ids(filter: Any, ids: dict[str, str]) -> Any:
    """Replace each `$A` in the filter by the id of A."""
    if isinstance(filter, dict):
        return {name: with_ids(value, ids) for name, value in filter.items()}
    if isinstance(filter, list):
        return [with_ids(value, ids) for value in filter]
    return ids[filter[1:]] if isinstance(filter, str) and filter.startswith("$") else filter


async def names(client: Client, operation: str, filter: Any, ids: dict[str, str]) -> str:
    """Return the sorted names of the matching objects; check that the total count agrees."""
    page = await client.execute(operation, filter=with_ids(filter, ids))
    found = "".join(sorted(node["name"] for node in page["nodes"]))
    assert page["totalCount"] == len(found)
    return found


THEN = "2030-01-01T12:00:00Z"
EARLIER = "2030-01-01T11:59:59.999999Z"
LATER = "2030-01-01T12:00:00.000001Z"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "ABCXY"),
        ({"id": {"in": ["$A", "$X", UNKNOWN_ID]}}, "AX"),
        ({"id": {"notIn": ["$A", "$X"]}}, "BCY"),
        ({"name": {"in": ["A", "x"]}}, "A"),
        ({"name": {"notIn": ["A", "x"]}}, "BCXY"),
        ({"name": {"contains": "x"}}, "X"),
        ({"taskKey": {"contains": "MAIL"}}, "BCY"),
        ({"taskKey": {"contains": ""}}, "ABCXY"),
        ({"taskKey": {"contains": "%"}}, "X"),
        ({"taskKey": {"contains": "_"}}, "X"),
        ({"taskKey": {"contains": "mail%"}}, ""),
        ({"taskKey": {"startsWith": "mail"}}, "CY"),
        ({"taskKey": {"startsWith": "MAIL"}}, ""),
        ({"taskKey": {"startsWith": ""}}, "ABCXY"),
        ({"taskKey": {"startsWith": "%"}}, ""),
        ({"taskKey": {"in": ["mail"]}}, "C"),
        ({"taskKey": {"in": ["mail", "scan"], "contains": "a"}}, "AC"),
        ({"tags": {"all": []}}, "ABCXY"),
        ({"tags": {"all": ["red"]}}, "AC"),
        ({"tags": {"all": ["red", "red"]}}, "AC"),
        ({"tags": {"all": ["blue", "red"]}}, "C"),
        ({"tags": {"any": []}}, ""),
        ({"tags": {"any": ["blue", "Red"]}}, "CX"),
        ({"tags": {"isEmpty": True}}, "BY"),
        ({"tags": {"isEmpty": False}}, "ACX"),
        ({"tags": {"all": ["red"], "isEmpty": True}}, ""),
        ({"state": {"type": {"in": ["SCHEDULED"]}}}, "CXY"),
        ({"state": {"type": {"notIn": ["SCHEDULED", "PENDING"]}}}, "B"),
        ({"state": {"name": {"in": ["Soon"]}}}, "Y"),
        ({"state": {"name": {"contains": "sch"}}}, "X"),
        ({"state": {"type": {"in": ["SCHEDULED"]}, "name": {"in": ["Pending"]}}}, ""),
        ({"startTime": {"isNull": False}}, "B"),
        ({"startTime": {"isNull": True}}, "ACXY"),
        ({"startTime": {"after": THEN, "before": THEN}}, "B"),
        ({"startTime": {"after": LATER}}, ""),
        ({"startTime": {"before": EARLIER}}, ""),
        ({"startTime": {"before": THEN, "isNull": True}}, ""),
        ({"endTime": {"before": LATER}}, "B"),
        ({"expectedStartTime": {"after": "2030-12-31T23:59:59-01:00"}}, ""),
        ({"expectedStartTime": {"after": "2031-01-01T00:00:00Z"}}, "X"),
        ({"createdAt": {"after": THEN}}, "ABCXY"),
        ({"createdAt": {"after": LATER}}, ""),
        ({"nextScheduledStartTime": {"isNull": True}}, "AB"),
        ({"nextScheduledStartTime": {"after": "2030-12-31T23:00:00Z"}}, "CX"),
        ({"stateTimestamp": {"after": THEN, "before": THEN}}, "ABCXY"),
        ({"stateTimestamp": {"before": EARLIER}}, ""),
        ({"runCount": {"atLeast": 1}}, "B"),
        ({"runCount": {"atLeast": 0, "atMost": 0}}, "ACXY"),
        ({"totalRunTimeSeconds": {"atMost": 0.5}}, "ABCXY"),
        ({"totalRunTimeSeconds": {"atLeast": 1e-6}}, ""),
        ({"dynamicKey": {"in": ["A-1"]}}, "A"),
        ({"dynamicKey": {"startsWith": "A"}}, "A"),
        ({"workerName": {"isNull": True}}, "ABCXY"),
        ({"workerName": {"contains": ""}}, ""),
        ({"stateMessage": {"contains": "DISK"}, "taskKey": {"in": ["Mail"]}}, "B"),
        ({"stateMessage": {"contains": "disk"}, "taskKey": {"startsWith": "mail"}}, ""),
        ({"stateMessage": {"isNull": True}, "createdAt": {"after": THEN}}, "ACXY"),
        ({"metadata": {"contains": {"team": "search"}}, "createdAt": {"after": THEN}}, "AX"),
        ({"metadata": {"contains": {"team": "search", "size": 2.0}}, "createdAt": {"after": THEN}}, "A"),
        ({"metadata": {"contains": {"size": "2"}}, "createdAt": {"after": THEN}}, ""),
        ({"metadata": {"contains": {"urgent": True}}, "createdAt": {"after": THEN}}, "X"),
        ({"metadata": {"contains": {"urgent": 1}}, "createdAt": {"after": THEN}}, ""),
        ({"metadata": {"contains": {"owner": None}}, "createdAt": {"after": THEN}}, "X"),
        ({"metadata": {"contains": {}}, "createdAt": {"after": THEN}}, "AX"),
        ({"not": {"metadata": {"contains": {"size": 2}}}, "createdAt": {"after": THEN}}, "BCXY"),
        ({"flowRunId": {"in": ["$f"]}}, "AB"),
        ({"flowRunId": {"notIn": ["$f"]}}, "C"),
        ({"flowRunId": {"notIn": []}}, "ABCXY"),
        ({"flowRunId": {"isNull": True}}, "XY"),
        ({"flowRunId": {"isNull": False}}, "ABC"),
        ({"hasChildFlowRun": True}, "C"),
        ({"hasChildFlowRun": False}, "ABXY"),
        ({"flowRun": {}}, "ABC"),
        ({"flowRun": {"id": {"in": ["$f"]}}}, "AB"),
        ({"flowRun": {"id": {"isNull": True}}}, ""),
        ({"flowRun": {"id": {"in": []}}}, ""),
        ({"flowRun": {"id": {"notIn": []}}}, "ABC"),
        ({"flowRun": {"tags": {"any": ["x"]}}}, "C"),
        ({"flowRun": {"flow": {"name": {"in": ["F"]}}}}, "AB"),
        ({"flowRun": {"flow": {"id": {"in": ["$G"]}}}}, "C"),
        ({"flowRun": {"deployment": {}}}, "AB"),
        ({"flowRun": {"deployment": {"tags": {"all": ["prod"]}}}}, "AB"),
        ({"flowRun": {"flow": {"name": {"in": ["G"]}}, "deployment": {"name": {"in": ["D"]}}}}, ""),
        ({"not": {"flowRun": {}}}, "XY"),
        ({"not": {"flowRun": {"flow": {"name": {"in": ["F"]}}}}}, "CXY"),
        ({"not": {"startTime": {"after": THEN}}}, "ACXY"),
        ({"not": {"startTime": {"isNull": True}}}, "B"),
        ({"not": {}}, ""),
        ({"not": {"not": {"name": {"in": ["A"]}}}}, "A"),
        ({"and": []}, "ABCXY"),
        ({"and": [{"taskKey": {"contains": "mail"}}, {"flowRunId": {"isNull": False}}]}, "BC"),
        ({"and": [{"name": {"in": ["A"]}}], "name": {"in": ["B"]}}, ""),
        ({"or": []}, "ABCXY"),
        ({"or": [{}, {"name": {"in": ["A"]}}]}, "ABCXY"),
        ({"or": [{"id": {}}, {"name": {"in": ["A"]}}]}, "ABCXY"),
        ({"or": [{"name": {"in": ["A"]}}, {"tags": {"isEmpty": True}}]}, "ABY"),
        ({"or": [{"name": {"in": ["A"]}}, {"name": {"in": ["X"]}}], "tags": {"any": ["red"]}}, "A"),
        ({"or": [{"not": {"flowRun": {}}}, {"and": [{"tags": {"all": ["red"]}}, {"name": {"notIn": ["A"]}}]}]}, "CXY"),
    ],
)
async def test_a_task_run_filter_matches(client: Client, ids: dict[str, str], filter: Any, expected: str) -> None:
    assert await names(client, "ListTaskRuns", filter, ids) == expected
    assert await client.execute("CountTaskRuns", filter=with_ids(filter, ids)) == len(expected)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "fgh"),
        ({"id": {"in": ["$f"]}}, "f"),
        ({"name": {"contains": "F"}}, "f"),
        ({"tags": {"all": ["prod"]}}, "f"),
        ({"tags": {"isEmpty": True}}, "h"),
        ({"deploymentId": {"in": ["$D"]}}, "f"),
        ({"deploymentId": {"in": ["$gone"]}}, "h"),
        ({"deploymentId": {"notIn": ["$D"]}}, "h"),
        ({"deploymentId": {"isNull": True}}, "g"),
        ({"deploymentId": {"isNull": False}}, "fh"),
        ({"deployment": {}}, "f"),
        ({"deployment": {"id": {"in": ["$gone"]}}}, ""),
        ({"deployment": {"id": {"notIn": ["$D"]}}}, ""),
        ({"deployment": {"isScheduleActive": True}}, "f"),
        ({"deployment": {"isScheduleActive": False}}, ""),
        ({"not": {"deployment": {}}}, "gh"),
        ({"workQueueName": {"in": ["q1"]}}, "f"),
        ({"workQueueName": {"isNull": True}}, "gh"),
        ({"workQueueName": {"notIn": ["q2"]}}, "f"),
        ({"not": {"workQueueName": {"in": ["q1"]}}}, "gh"),
        ({"state": {"type": {"in": ["RUNNING"]}}}, "gh"),
        ({"state": {"name": {"in": ["Late"]}}}, "f"),
        ({"flowVersion": {"in": ["v1", "v2"]}}, "g"),
        ({"startTime": {"before": THEN}}, "gh"),
        ({"expectedStartTime": {"after": "2031-01-01T00:00:00Z"}}, "f"),
        ({"nextScheduledStartTime": {"isNull": False}}, "f"),
        ({"nextScheduledStartTime": {"before": "2031-01-01T00:00:00Z"}}, "f"),
        ({"parentFlowRunId": {"in": ["$g"]}}, "f"),
        ({"parentFlowRunId": {"in": ["$g", "$f"]}}, "f"),
        ({"parentFlowRunId": {"in": ["$f"]}}, ""),
        ({"parentFlowRunId": {"notIn": ["$f"]}}, "f"),
        ({"parentFlowRunId": {"isNull": True}}, "gh"),
        ({"parentFlowRunId": {"isNull": False}}, "f"),
        ({"parentTaskRunId": {"in": ["$C"]}}, "f"),
        ({"parentTaskRunId": {"isNull": True}}, "gh"),
        ({"idempotencyKey": {"notIn": ["x"]}}, "f"),
        ({"idempotencyKey": {"notIn": []}}, "fgh"),
        ({"idempotencyKey": {"in": ["once"]}}, "f"),
        ({"flow": {}}, "fgh"),
        ({"flow": {"name": {"in": ["G"]}}}, "gh"),
        ({"flow": {"id": {"in": ["$F"]}, "tags": {"isEmpty": False}}}, "f"),
        ({"or": [{"name": {"in": ["f"]}}, {"flowVersion": {"isNull": False}}]}, "fg"),
        ({"and": [{"flow": {"name": {"in": ["G"]}}}, {"not": {"name": {"in": ["g"]}}}]}, "h"),
    ],
)
async def test_a_flow_run_filter_matches(client: Client, ids: dict[str, str], filter: Any, expected: str) -> None:
    assert await names(client, "ListFlowRuns", filter, ids) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "FG"),
        ({"id": {"in": ["$G"]}}, "G"),
        ({"name": {"in": ["F"]}}, "F"),
        ({"name": {"contains": "f"}}, "F"),
        ({"tags": {"all": ["y", "x"]}}, "F"),
        ({"tags": {"isEmpty": True}}, "G"),
        ({"hasDeployment": True}, "F"),
        ({"hasDeployment": False}, "G"),
        ({"or": [{"hasDeployment": True}, {"name": {"in": ["G"]}}]}, "FG"),
        ({"not": {"tags": {"any": ["x"]}}}, "G"),
        ({"and": [{"name": {"in": ["F"]}}, {"name": {"in": ["G"]}}]}, ""),
    ],
)
async def test_a_flow_filter_matches(client: Client, ids: dict[str, str], filter: Any, expected: str) -> None:
    assert await names(client, "ListFlows", filter, ids) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "DE"),
        ({"id": {"notIn": ["$D"]}}, "E"),
        ({"name": {"in": ["D"]}}, "D"),
        ({"name": {"contains": "d"}}, "D"),
        ({"tags": {"any": ["prod"]}}, "D"),
        ({"workQueueName": {"in": ["q1"]}}, "D"),
        ({"workQueueName": {"isNull": True}}, "E"),
        ({"isScheduleActive": True}, "D"),
        ({"isScheduleActive": False}, "E"),
        ({"isScheduleActive": None}, "DE"),
        ({"or": [{"isScheduleActive": True}, {"name": {"in": ["E"]}}]}, "DE"),
        ({"not": {"isScheduleActive": True}}, "E"),
        ({"and": [{"isScheduleActive": True}, {"name": {"in": ["E"]}}]}, ""),
    ],
)
async def test_a_deployment_filter_matches(client: Client, ids: dict[str, str], filter: Any, expected: str) -> None:
    assert await names(client, "ListDeployments", filter, ids) == expected


@pytest.mark.parametrize(
    ("text", "found"), [("É", True), ("é", False), ("ca", True), ("CAFÉ", True), ("café", False), ("日", True)]
)
async def test_contains_ignores_the_case_of_ascii_letters_only(client: Client, text: str, found: bool) -> None:
    await client.execute("CreateTaskRun", input={"taskKey": "t", "name": "cafÉ 日本"})

    assert await client.execute("CountTaskRuns", filter={"name": {"contains": text}}) == int(found)


def nest(depth: int, join: str) -> dict[str, Any]:
    """Nest a filter by name `depth` levels deep."""
    filter: dict[str, Any] = {"name": {"contains": "a"}}
    for _ in range(depth):
        filter = {"not": filter} if join == "not" else {join: [filter, {"name": {"in": ["b"]}}]}
    return filter


@pytest.mark.parametrize("join", ["and", "or", "not"])
async def test_a_filter_may_nest_ten_deep(client: Client, join: str) -> None:
    assert await client.execute("CountTaskRuns", filter=nest(10, join)) == 0

    error = await client.execute_refused("CountTaskRuns", filter=nest(11, join))

    below = join if join == "not" else f"{join}.0"
    argument = ".".join(["filter", *[below] * 10, join])
    assert error == {
        "message": f"{argument}: exceeds the maximum filter depth of 10. Use fewer nested filters.",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


async def test_the_deepest_possible_filter_is_executed(client: Client, ids: dict[str, str]) -> None:
    filter = {"flow": {"name": {"in": ["F"]}, "tags": {"all": ["x"]}, "hasDeployment": True}}
    filter = {"or": [{"not": filter}, {"parentFlowRunId": {"isNull": False}}]}
    filter = {"flowRun": filter}
    for _ in range(3):
        filter = {"or": [{"not": filter}, {"name": {"in": ["none"]}}]}

    assert await names(client, "ListTaskRuns", filter, ids) == "XY"


async def test_a_filter_may_have_a_hundred_conditions(client: Client) -> None:
    def filter(conditions: int) -> dict[str, Any]:
        return {"or": [{"name": {"in": [str(each)]}} for each in range(conditions // 2)]}

    assert await client.execute("CountTaskRuns", filter=filter(100)) == 0

    assert await client.execute_refused("CountTaskRuns", filter=filter(102)) == {
        "message": "filter: exceeds the limit of 100 conditions. A list operator such as `in` counts as one.",
        "code": "BAD_USER_INPUT",
        "argument": "filter",
    }


async def test_a_list_in_a_filter_may_have_a_thousand_values(client: Client) -> None:
    await client.execute("CreateTaskRun", input={"taskKey": "999"})

    def filter(values: int) -> dict[str, Any]:
        return {"taskKey": {"in": [str(each) for each in range(values)]}}

    assert await client.execute("CountTaskRuns", filter=filter(1000)) == 1

    assert await client.execute_refused("CountTaskRuns", filter=filter(1001)) == {
        "message": "filter.taskKey.in: must have at most 1,000 values; got 1,001.",
        "code": "BAD_USER_INPUT",
        "argument": "filter.taskKey.in",
    }


@pytest.mark.parametrize("depth", [100, 1000, 5000])
async def test_an_extremely_deep_filter_is_refused(client: Client, depth: int) -> None:
    query = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
    filter = '{"not":' * depth + "{}" + "}" * depth
    body = f'{{"query": "{query}", "variables": {{"filter": {filter}}}}}'

    response = await client.http.post("/graphql", content=body, headers={"content-type": "application/json"})

    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_USER_INPUT"]


async def test_a_malformed_id_deep_in_a_filter_is_named_by_its_path(client: Client) -> None:
    filter = {"or": [{"not": {"flowRun": {"flow": {"id": {"in": [UNKNOWN_ID, "nonsense"]}}}}}]}

    error = await client.execute_refused("CountTaskRuns", filter=filter)

    assert error["argument"] == "filter.or.0.not.flowRun.flow.id.in.1"
