"""What is asked of the server, one row a workload."""

from benchmarks.changes import Creating, Delivering, Moving, Sustaining, Writing
from benchmarks.population import BEGIN, COMMON_TAG, DAYS, END, RARE_TAG, flow_name
from benchmarks.stage import Reading
from db.enums import StateType
from db.runtime.timestamps import instant

FILTER = {
    "state": {"type": {"any": ["COMPLETED"]}},
    "tags": {"any": [COMMON_TAG]},
    "flowRun": {"flow": {"name": {"any": [flow_name(3)]}}},
}
RARE = {"state": {"type": {"any": ["COMPLETED"]}}, "tags": {"any": [RARE_TAG]}}
PAGE_FIELDS = """id created updated name taskKey dynamicKey tags parameters runCount expectedStartTime startTime endTime
  totalRunTimeSeconds estimatedRunTimeSeconds stateType flowRunId taskVersion
  state { id type name timestamp message } flowRun { id name }"""
ALL_FIELDS = """id created updated name taskKey dynamicKey taskVersion cacheKey cacheExpiration
  empiricalPolicy { retries retryDelaySeconds retryJitterFactor } tags taskInputs parameters flowRunId stateId stateType
  stateName state { id type name timestamp message data } runCount flowRunRunCount expectedStartTime
  nextScheduledStartTime startTime endTime totalRunTimeSeconds estimatedRunTimeSeconds estimatedStartTimeDeltaSeconds
  flowRun { id name created runCount stateType flow { id name tags } }"""
PAGE = """query ($filter: TaskRunFilter, $sort: TaskRunSort) { taskRuns(filter: $filter, sort: $sort, first: 200) {
  pageInfo { hasNextPage endCursor } nodes { %s } } }"""
COUNT = "query ($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
ONE = "query ($id: ID!) { taskRun(id: $id) { %s } }"
HISTORY = """query ($start: DateTime!, $end: DateTime!, $seconds: Float!) {
  taskRunHistory(start: $start, end: $end, intervalSeconds: $seconds) {
    start end states { stateType stateName countRuns sumEstimatedRunTimeSeconds sumEstimatedLatenessSeconds } } }"""

LATEST, EXPECTED = "START_TIME_DESC", "EXPECTED_START_TIME_DESC"
READINGS = (
    Reading("P", "page of 200, 19 fields, state, flow run", PAGE % PAGE_FIELDS, {"filter": FILTER, "sort": LATEST}),
    Reading("P-expected", "the same by expected start", PAGE % PAGE_FIELDS, {"filter": FILTER, "sort": EXPECTED}),
    Reading("P-rare", "the same by a rare tag alone", PAGE % PAGE_FIELDS, {"filter": RARE, "sort": LATEST}),
    Reading("W3", "page of 200, all fields, flow", PAGE % ALL_FIELDS, {"filter": FILTER, "sort": LATEST}),
    Reading("W4", "count by the filter of P", COUNT, {"filter": FILTER}),
    Reading(
        "W5",
        "history of 7 days in 100 buckets",
        HISTORY,
        {"start": instant(BEGIN), "end": instant(END), "seconds": DAYS * 86_400 / 100},
        needs="taskRunHistory",
    ),
    Reading("W6", "one run by id, 4 fields", ONE % "id stateType stateName runCount", operations=1000, by_id=True),
    Reading("W6-all", "one run by id, all fields", ONE % ALL_FIELDS, operations=1000, by_id=True),
)
WRITINGS = (
    Creating("W1", "createTaskRun PENDING, one at a time", 1),
    Creating("W1-8", "createTaskRun PENDING, 8 at once", 8),
    Creating("W1-scheduled", "createTaskRun SCHEDULED, one at a time", 1, type=StateType.SCHEDULED),
    Creating("W1-scheduled-8", "createTaskRun SCHEDULED, 8 at once", 8, type=StateType.SCHEDULED),
    Moving("W2", "setTaskRunState, all rules, one at a time", 1),
    Moving("W2-8", "setTaskRunState, all rules, 8 at once", 8),
    Delivering("W7", "create, deliver, acknowledge, one at a time", 1, 200),
    Sustaining("W7-sustained", "the same, 8 creators and 4 workers", 8, 800),
)
WORKLOADS: tuple[Reading | Writing, ...] = (*WRITINGS, *READINGS)
