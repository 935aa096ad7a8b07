"""taskRunHistory: number of task runs by interval of their expected start time and by current state."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.builders.api_runs import set_task_run_state
from tests.client import Client
from tests.clock import START
from tests.serving import SQLITE_ONLY, RunningServer

HOUR = 3600.0
DAY = 24 * HOUR


def at(seconds: float) -> str:
    """Format the time `seconds` after the start of the clock as responses do."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def create(client: Client, *expected: float | None, **fields: Any) -> list[str]:
    """Create runs, each expected to start this many seconds after the start of the clock (None: now); return their ids."""
    states = [{"type": "PENDING"} if seconds is None else scheduled(seconds) for seconds in expected]
    inputs = [{"taskKey": "t", "state": state, **fields} for state in states]
    return [payload["taskRun"]["id"] for payload in (await client.execute("CreateTaskRuns", inputs=inputs))["results"]]


def scheduled(seconds: float, name: str | None = None) -> dict[str, Any]:
    return {"type": "SCHEDULED", "name": name, "details": {"scheduledTime": at(seconds)}}


async def force_state(client: Client, id: str, type: str, name: str | None = None) -> None:
    result = await set_task_run_state(client, id, type, name=name, force=True)
    assert result["status"] == "ACCEPT"


async def history(client: Client, start: float, end: float, seconds: float, **filter: Any) -> list[dict[str, Any]]:
    return await client.execute(
        "GetTaskRunHistory", start=at(start), end=at(end), intervalSeconds=seconds, filter=filter or None
    )


async def counts(client: Client, start: float, end: float, seconds: float, **filter: Any) -> list[int]:
    """Return the number of runs in each interval."""
    intervals = await history(client, start, end, seconds, **filter)
    return [sum(state["countRuns"] for state in each["states"]) for each in intervals]


async def only_state(client: Client) -> dict[str, Any]:
    """Return the only state in an interval that contains all runs."""
    (interval,) = await history(client, -DAY, DAY, 2 * DAY)
    (state,) = interval["states"]
    return state


async def test_intervals_are_contiguous_from_the_start_and_have_their_states(client: Client) -> None:
    await create(client, 90.25)

    assert await history(client, 0, 180, 60) == [
        {"start": at(0), "end": at(60), "states": []},
        {
            "start": at(60),
            "end": at(120),
            "states": [
                {
                    "stateType": "SCHEDULED",
                    "stateName": "Scheduled",
                    "countRuns": 1,
                    "sumEstimatedRunTimeSeconds": 0.0,
                    "sumEstimatedLatenessSeconds": 0.0,
                }
            ],
        },
        {"start": at(120), "end": at(180), "states": []},
    ]


async def test_intervals_reach_the_end_and_the_last_may_extend_beyond_it(client: Client) -> None:
    for end, seconds, bounds in [
        (14 * DAY, DAY, [DAY * number for number in range(15)]),
        (10 * DAY, 25 * HOUR, [25 * HOUR * number for number in range(11)]),
        (3, 1.5, [0, 1.5, 3]),
        (2.000001, 1, [0, 1, 2, 3]),
        (2.5, 1.000001, [0, 1.000001, 2.000002, 3.000003]),
        (1, 1e9, [0, 1e9]),
    ]:
        intervals = await history(client, 0, end, seconds)

        assert [(each["start"], each["end"]) for each in intervals] == [
            (at(one), at(other)) for one, other in pairwise(bounds)
        ]


async def test_the_last_interval_is_capped_at_the_maximum_timestamp(client: Client) -> None:
    (interval,) = await history(client, 0, 1, 1e300)

    assert (interval["start"], interval["end"]) == (at(0), "9999-12-31T23:59:59.999999Z")


async def test_a_span_that_does_not_end_after_its_start_has_no_intervals(client: Client) -> None:
    await create(client, 0)

    assert [await history(client, 0, end, 60) for end in (0, -0.000001, -10 * DAY)] == [[], [], []]


@pytest.mark.parametrize("names", [99, 100, 101, 102, 250])
async def test_a_history_has_any_number_of_state_names(client: Client, names: int) -> None:
    # Each name occurs in both intervals.
    states = [scheduled(seconds, f"{number:03} of them") for number in range(names) for seconds in (0, 60)]
    await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "state": state} for state in states])

    found = await history(client, 0, 120, 60)

    expected = [("SCHEDULED", f"{number:03} of them", 1) for number in range(names)]
    for interval in found:
        listed = [(state["stateType"], state["stateName"], state["countRuns"]) for state in interval["states"]]
        assert listed == expected


async def test_a_name_shared_by_two_state_types_is_listed_for_each(client: Client) -> None:
    (failed, *_) = await create(client, 0, 0)
    await force_state(client, failed, "FAILED", "Scheduled")

    (interval,) = await history(client, 0, 60, 60)

    listed = [(state["stateType"], state["stateName"], state["countRuns"]) for state in interval["states"]]
    assert listed == [("FAILED", "Scheduled", 1), ("SCHEDULED", "Scheduled", 1)]


async def test_an_interval_includes_its_start_but_not_its_end(client: Client) -> None:
    for interval, expected in enumerate(
        [
            (-0.000001, -60),
            (0, 0.000001, 59.999999),
            (60, 60.000001, 61.5, 119.999999),
            (120, 120.999999, 121, 150, 179.999999),
            (180, 180.000001),
        ]
    ):
        await create(client, *expected, tags=[str(interval)])

    assert await counts(client, 0, 121, 60) == [3, 4, 5]
    assert await counts(client, 0, 121, 60, tags={"any": ["1"]}) == [3, 0, 0]
    assert await counts(client, 0, 121, 60, tags={"any": ["2"]}) == [0, 4, 0]
    assert await counts(client, 0, 121, 60, tags={"any": ["3"]}) == [0, 0, 5]


async def test_intervals_of_uneven_length_and_start_contain_the_right_runs(client: Client) -> None:
    await create(client, *(0.75 * number for number in range(40)))
    indexes = [(750_000 * number + 1) // 1_000_003 for number in range(40)]

    assert await counts(client, -0.000001, 30, 1.000003) == [indexes.count(index) for index in range(30)]


async def test_a_run_stays_in_the_interval_of_its_first_expected_start(client: Client) -> None:
    (id,) = await create(client, 30)

    await force_state(client, id, "RUNNING")
    await client.execute("SetTaskRunState", id=id, state=scheduled(90, "Again"), force=True)

    assert await counts(client, 0, 120, 60) == [1, 0]


async def test_runs_are_grouped_and_sorted_by_state_type_and_name(client: Client) -> None:
    states = [("FAILED", "Zed"), ("FAILED", "Alpha"), ("COMPLETED", None), ("FAILED", "Zed"), ("FAILED", "a")]
    for id, (type, name) in zip(await create(client, *[None] * 5), states, strict=True):
        await force_state(client, id, type, name)

    (interval,) = await history(client, 0, 60, 60)

    assert [(each["stateType"], each["stateName"], each["countRuns"]) for each in interval["states"]] == [
        ("COMPLETED", "Completed", 1),
        ("FAILED", "Alpha", 1),
        ("FAILED", "Zed", 2),
        ("FAILED", "a", 1),
    ]


async def test_run_time_and_lateness_are_those_of_the_run(server: RunningServer, client: Client) -> None:
    (id,) = await create(client, None)
    server.clock.advance(3)
    await force_state(client, id, "RUNNING")
    server.clock.advance(10)
    await force_state(client, id, "COMPLETED")
    server.clock.advance(100)

    state = await only_state(client)

    assert (state["sumEstimatedRunTimeSeconds"], state["sumEstimatedLatenessSeconds"]) == (10.0, 3.0)


async def test_sums_keep_fractions_of_seconds(server: RunningServer, client: Client) -> None:
    ids = await create(client, None, None, None)
    server.clock.advance(0.9)
    for id in ids:
        await force_state(client, id, "RUNNING")
    server.clock.advance(1.9)

    state = await only_state(client)

    assert state["countRuns"] == 3
    assert state["sumEstimatedRunTimeSeconds"] == pytest.approx(5.7, abs=1e-6)
    assert state["sumEstimatedLatenessSeconds"] == pytest.approx(2.7, abs=1e-6)


async def test_a_running_run_has_its_run_time_so_far(server: RunningServer, client: Client) -> None:
    (id,) = await create(client, None)
    await force_state(client, id, "RUNNING")
    server.clock.advance(12.345678)

    assert (await only_state(client))["sumEstimatedRunTimeSeconds"] == pytest.approx(12.345678, abs=1e-6)


async def test_a_run_that_has_not_started_is_late_since_its_expected_start(
    server: RunningServer, client: Client
) -> None:
    await create(client, 10, 120)
    server.clock.advance(60.5)

    assert (await only_state(client))["sumEstimatedLatenessSeconds"] == 50.5


async def test_a_run_that_started_early_or_ended_without_starting_is_not_late(
    server: RunningServer, client: Client
) -> None:
    early, failed = await create(client, 10, None)
    await force_state(client, early, "RUNNING")
    await force_state(client, failed, "FAILED")
    server.clock.advance(60)

    (interval,) = await history(client, 0, 60, 60)

    assert [(each["stateType"], each["sumEstimatedLatenessSeconds"]) for each in interval["states"]] == [
        ("FAILED", 0.0),
        ("RUNNING", 0.0),
    ]


async def test_a_filter_matches_the_same_runs_as_in_a_list(client: Client) -> None:
    await create(client, 0, tags=["red"])
    await create(client, 1)
    await create(client, 2, tags=["red", "blue"], taskKey="other")
    await create(client, 60, taskKey="other")

    for filter, expected in [
        ({}, [3, 1]),
        ({"tags": {"all": ["red"]}}, [2, 0]),
        ({"tags": {"all": ["blue"]}}, [1, 0]),
        ({"taskKey": {"in": ["other"]}}, [1, 1]),
        ({"taskKey": {"in": ["other", "t"]}}, [3, 1]),
        ({"state": {"type": {"in": ["SCHEDULED"]}}}, [3, 1]),
        ({"state": {"type": {"in": ["RUNNING"]}}}, [0, 0]),
        ({"or": [{"tags": {"any": ["red"]}}, {"taskKey": {"in": ["other"]}}]}, [2, 1]),
        ({"not": {"tags": {"any": ["red"]}}}, [1, 1]),
        ({"flowRunId": {"isNull": False}}, [0, 0]),
        ({"flowRun": {"flow": {"name": {"in": ["f"]}}}}, [0, 0]),
        ({"expectedStartTime": {"after": at(1.5)}}, [1, 1]),
    ]:
        assert await counts(client, 0, 120, 60, **filter) == expected, filter


async def test_an_interval_shorter_than_a_second_is_refused(client: Client) -> None:
    for seconds, end in [(0.999999, 60), (0, 60), (-5, 60), (0.5, 0)]:
        error = await client.execute_refused("GetTaskRunHistory", start=at(0), end=at(end), intervalSeconds=seconds)

        assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "intervalSeconds")
        assert error["message"].endswith(f"must be at least 1 second; got {seconds:g}.")


async def test_more_than_five_hundred_intervals_are_refused_with_the_shortest_valid_length(
    client: Client,
) -> None:
    span = {"start": at(0), "end": at(1000.0001)}

    error = await client.execute_refused("GetTaskRunHistory", **span, intervalSeconds=2)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "intervalSeconds")
    assert error["message"].endswith(
        "must be at least 2.000001 seconds for this span: 501 intervals exceed the limit of 500."
    )
    assert len(await client.execute("GetTaskRunHistory", **span, intervalSeconds=2.000001)) == 500


async def test_five_hundred_intervals_are_accepted(client: Client) -> None:
    assert await counts(client, 0, 500, 1) == [0] * 500


async def test_a_malformed_filter_is_refused(client: Client) -> None:
    error = await client.execute_refused(
        "GetTaskRunHistory", start=at(0), end=at(60), intervalSeconds=60, filter={"id": {"in": ["x"]}}
    )

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "filter.id.in.0")


@SQLITE_ONLY
@pytest.mark.parametrize("intervals", [1, 500])
async def test_a_history_takes_one_statement_for_any_number_of_intervals(
    server: RunningServer, client: Client, intervals: int
) -> None:
    await create(client, 0)

    async with server.record_reads() as statements:
        assert sum(await counts(client, 0, intervals, 1)) == 1

    assert len(statements) == 1


async def select(client: Client, fields: str) -> Any:
    """Select these fields of a history of two minutes."""
    arguments = f'start: "{at(0)}", end: "{at(120)}", intervalSeconds: 60'
    query = f"{{ taskRunHistory({arguments}) {{ {fields} }} }}"
    return (await client.http.post("/graphql", json={"query": query})).json()["data"]["taskRunHistory"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("end start", [{"end": at(60), "start": at(0)}, {"end": at(120), "start": at(60)}]),
        ("states { countRuns }", [{"states": [{"countRuns": 2}]}, {"states": []}]),
        (
            "of: states { of: stateName again: stateName __typename } from: start again: start",
            [
                {
                    "of": [{"of": "Scheduled", "again": "Scheduled", "__typename": "RunHistoryState"}],
                    "from": at(0),
                    "again": at(0),
                },
                {"of": [], "from": at(60), "again": at(60)},
            ],
        ),
        (
            "states { stateName } other: states { countRuns }",
            [{"states": [{"stateName": "Scheduled"}], "other": [{"countRuns": 2}]}, {"states": [], "other": []}],
        ),
        ("__typename", [{"__typename": "RunHistoryInterval"}] * 2),
    ],
)
async def test_selected_fields_are_returned_in_their_order(
    client: Client, fields: str, expected: list[dict[str, Any]]
) -> None:
    await create(client, 0, 30)

    found = await select(client, fields)

    assert found == expected
    assert [list(each) for each in found] == [list(each) for each in expected]


async def test_state_names_are_returned_unchanged(client: Client) -> None:
    names = ["".join(map(chr, range(1, 128))), '50 %s %% \\ "', "\u2028 \x7f \u00e9 \U0001f600 ,]}", " "]
    await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "state": scheduled(0, name)} for name in names])

    (interval, _) = await select(client, "states { stateName }")

    assert [state["stateName"] for state in interval["states"]] == sorted(names)
