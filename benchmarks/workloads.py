"""The table of workloads, one row each."""

from benchmarks.changes import (
    BatchWorkload,
    CreateWorkload,
    DeliveryWorkload,
    ThroughputWorkload,
    TransitionWorkload,
    WriteWorkload,
)
from benchmarks.population import BEGIN, COMMON_TAG, DAYS, END, RARE_TAG, flow_name
from benchmarks.stage import ReadWorkload
from db.enums import StateType
from db.runtime.timestamps import format_timestamp

FILTER = {
    "state": {"type": {"in": ["COMPLETED"]}},
    "tags": {"any": [COMMON_TAG]},
    "flowRun": {"flow": {"name": {"in": [flow_name(3)]}}},
}
RARE = {"state": {"type": {"in": ["COMPLETED"]}}, "tags": {"any": [RARE_TAG]}}
PAGE_FIELDS = """id createdAt updatedAt name taskKey dynamicKey tags parameters runCount expectedStartTime startTime endTime
  totalRunTimeSeconds estimatedRunTimeSeconds stateType flowRunId taskVersion
  state { id type name timestamp message } flowRun { id name }"""
ALL_FIELDS = """id createdAt updatedAt name taskKey dynamicKey taskVersion cacheKey cacheExpiresAt
  retryPolicy { retries retryDelaySeconds retryJitterFactor } tags taskInputs parameters flowRunId stateId stateType
  stateName state { id type name timestamp message data } runCount flowRunRunCount expectedStartTime
  nextScheduledStartTime startTime endTime totalRunTimeSeconds estimatedRunTimeSeconds estimatedStartTimeDeltaSeconds
  flowRun { id name createdAt runCount stateType flow { id name tags } }"""
PAGE = """query ($filter: TaskRunFilter, $sort: TaskRunSort) { taskRuns(filter: $filter, sort: $sort, first: 200) {
  pageInfo { hasNextPage endCursor } nodes { %s } } }"""
COUNT = "query ($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
ONE = "query ($id: ID!) { taskRun(id: $id) { %s } }"
HISTORY = """query ($start: DateTime!, $end: DateTime!, $seconds: Float!) {
  taskRunHistory(start: $start, end: $end, intervalSeconds: $seconds) {
    start end states { stateType stateName countRuns sumEstimatedRunTimeSeconds sumEstimatedLatenessSeconds } } }"""

BY_START, BY_EXPECTED_START = "START_TIME_DESC", "EXPECTED_START_TIME_DESC"
READ_WORKLOADS = (
    ReadWorkload(
        "P",
        "page of 200, 19 fields, state, flow run",
        PAGE % PAGE_FIELDS,
        {"filter": FILTER, "sort": BY_START},
    ),
    ReadWorkload(
        "P-expected",
        "the page of P by expected start",
        PAGE % PAGE_FIELDS,
        {"filter": FILTER, "sort": BY_EXPECTED_START},
    ),
    ReadWorkload("P-rare", "the page of P by a rare tag only", PAGE % PAGE_FIELDS, {"filter": RARE, "sort": BY_START}),
    ReadWorkload("W3", "page of 200, all fields, flow", PAGE % ALL_FIELDS, {"filter": FILTER, "sort": BY_START}),
    ReadWorkload("W4", "count by the filter of P", COUNT, {"filter": FILTER}),
    ReadWorkload(
        "W5",
        "history of 7 days in 100 buckets",
        HISTORY,
        {"start": format_timestamp(BEGIN), "end": format_timestamp(END), "seconds": DAYS * 86_400 / 100},
        needs="taskRunHistory",
    ),
    ReadWorkload("W6", "one run by id, 4 fields", ONE % "id stateType stateName runCount", operations=1000, by_id=True),
    ReadWorkload("W6-all", "one run by id, all fields", ONE % ALL_FIELDS, operations=1000, by_id=True),
)
WRITE_WORKLOADS = (
    CreateWorkload("W1", "createTaskRun PENDING, one at a time", 1),
    CreateWorkload("W1-8", "createTaskRun PENDING, 8 at once", 8),
    CreateWorkload("W1-scheduled", "createTaskRun SCHEDULED, one at a time", 1, type=StateType.SCHEDULED),
    CreateWorkload("W1-scheduled-8", "createTaskRun SCHEDULED, 8 at once", 8, type=StateType.SCHEDULED),
    TransitionWorkload("W2", "setTaskRunState, all rules, one at a time", 1),
    TransitionWorkload("W2-8", "setTaskRunState, all rules, 8 at once", 8),
    DeliveryWorkload("W7", "create, deliver, acknowledge, one at a time", 1, 200),
    ThroughputWorkload("W7-sustained", "create, deliver, acknowledge, 8 creators and 4 workers", 8, 800),
    BatchWorkload("W8", "create 100, claim and start 100, complete 100", 1, 20),
)
WORKLOADS: tuple[ReadWorkload | WriteWorkload, ...] = (*WRITE_WORKLOADS, *READ_WORKLOADS)
