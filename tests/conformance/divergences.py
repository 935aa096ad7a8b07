"""The steps of the recordings from which Runyard intentionally differs, with the reasons.

A reason is a decision, or a defect of the recorded server that Runyard corrects (with its number in the specification).
Consequences of a different step, such as a higher run count or a free slot, are listed under the same reason. The list is
exact: the replay fails on a difference that is not listed and on a listed step that matches the recording.
"""

from tests.conformance.traces import Trace

ALL_OR_NOTHING = (
    "D2: a run takes all of its slots or none, the first refusal decides, and its own slots do not block it"
)
FULL_LIMIT_REFUSES = "D3: creating a background run as RUNNING fails if its concurrency limit is reached"
DELETING_FREES_SLOTS = "D8: deleting a run frees its slots"
DANGLING_CACHE = "D9: a cached result of a deleted run does not hide an older result"
FORCED_BACKGROUND_RUNS = "D14: forced transitions and mirrored subflow states also bypass the rules of background runs"
RESUMING_IS_NOT_COUNTED = "D18: resuming from PAUSED to RUNNING does not increment the run count"
CANCELLED_AT_ONCE = (
    "docs/decisions/cancellation.md: a background run without an acknowledged lease becomes CANCELLED, not CANCELLING"
)
NO_START_AFTER_CANCELLATION = (
    "docs/decisions/cancellation.md: a CANCELLED or CANCELLING background run does not become RUNNING"
)
ROUND_ROBIN = "the recorded server starves later task keys; Runyard serves task keys round robin"
DUE_AT_ITS_TIME = (
    "the recorded server delivers future runs at once, and retries and rescheduled runs never; "
    "Runyard delivers every SCHEDULED background run at its scheduled time"
)
LITERAL_WILDCARDS = "the recorded server treats % and _ in `like` as wildcards; Runyard matches them literally"
TOO_MANY_INTERVALS = (
    "the recorded server truncates a history at 500 buckets; Runyard fails and names the minimum interval"
)
EMPTY_TIME_RANGE = (
    "the recorded server returns one bucket for an empty time range on SQLite, none on PostgreSQL; Runyard returns none"
)
TAGS_CAN_CHANGE = "the recorded server changes only the name of a task run; `updateTaskRun` changes its tags too"
INPUT_COERCION = "GraphQL input coercion: null means not set, and a single value becomes a list of one"

LISTED: dict[str, dict[str, str]] = {
    TAGS_CAN_CHANGE: {"12-bad-inputs/update": "4 5 6 7"},
    ALL_OR_NOTHING: {
        "04-concurrency/one/1/auto/CANCELLED": "7 8 11",
        "04-concurrency/one/1/auto/CANCELLING": "7 8",
        "04-concurrency/one/1/auto/PAUSED": "7 8 11",
        "04-concurrency/one/1/auto/PENDING": "7 8",
        "04-concurrency/one/1/auto/SCHEDULED": "7 8 11",
        "04-concurrency/one/1/flow/CANCELLED": "9 10 13",
        "04-concurrency/one/1/flow/CANCELLING": "9 10",
        "04-concurrency/one/1/flow/CRASHED": "9 10 13",
        "04-concurrency/one/1/flow/PENDING": "9 10 13",
        "04-concurrency/one/1/flow/SCHEDULED": "9 10 13",
        "04-concurrency/one/2/auto/*": "7 8",
        "04-concurrency/one/2/flow/*": "9 10",
        "04-concurrency/random/11": "13",
        "04-concurrency/random/12": "6 7 8 9 10 15",
        "04-concurrency/random/14": "10 11 12 13 14 16",
        "04-concurrency/random/15": "9 10 11 12",
        "04-concurrency/random/19": "14",
        "04-concurrency/random/24": "14 15 16 17 18 19 20 21",
        "04-concurrency/random/25": "9 10 11 12 14",
        "04-concurrency/random/28": "7 8 11",
        "04-concurrency/random/30": "18",
        "04-concurrency/random/35": "12",
        "04-concurrency/random/4": "11 13",
        "04-concurrency/random/50": "9 10 11 14 15 16 17 18 19 20",
        "04-concurrency/random/51": "13 14 15",
        "04-concurrency/random/52": "10 12 18",
        "04-concurrency/random/55": "9 10 11 12 13 14 15 16 17 18",
        "04-concurrency/random/59": "17",
        "04-concurrency/two/0-2": "5 6 7 8 9 10 11 13",
        "10-walks/11": "13 16",
        "10-walks/55": "26",
        "10-walks/94": "25 26 27 29 30 31 32 33 35 36 38 39",
        "11-deletes/task/RUNNING/auto": "2",
    },
    FULL_LIMIT_REFUSES: {
        "01-matrix/autonomous/none/0": "1 2 3 4 5 6 7 8 9 10 11 12",
        "01-matrix/autonomous/none/1": "1 2 3 4 5 6 7 8 9 10 11",
        "01-matrix/autonomous/none/3": "1 2 3 4 5 6 7 8 9 10 11",
        "01-matrix/autonomous/none/4": "1 2 3",
        "10-walks/120": "11 12 13 14 15 17 18 19 20 28",
        "10-walks/49": "21 23",
    },
    DELETING_FREES_SLOTS: {
        "04-concurrency/two/0-2": "14 15 16 17",
        "04-concurrency/two/1-2": "14 15 16 17",
        "11-deletes/cascade/flow_run/sub": "11 12 18 21 22",
        "11-deletes/task/COMPLETED/auto": "3 5 7 9 10 12",
        "11-deletes/task/COMPLETED/flow": "5 7 9 11 12 14",
        "11-deletes/task/PENDING/flow": "5 7 9 11 12 14",
        "11-deletes/task/RUNNING/auto": "3 5 7 9 10 12",
        "11-deletes/task/RUNNING/flow": "5 7 9 11 12 14",
    },
    DANGLING_CACHE: {
        "03-caching/newest/delete-tr2": "10",
    },
    FORCED_BACKGROUND_RUNS: {
        "01-matrix/autonomous-force/CANCELLED/0": "1 2 4",
        "01-matrix/autonomous-force/CANCELLED/1": "1 5",
        "01-matrix/autonomous-force/CANCELLING/1": "1",
        "01-matrix/autonomous-force/COMPLETED/0": "10 11",
        "01-matrix/autonomous-force/COMPLETED_ref/0": "2 3 6 9 12 15 16",
        "01-matrix/autonomous-force/COMPLETED_ref/1": "2 5 8 11 12 15",
        "01-matrix/autonomous-force/CRASHED/1": "1 10",
        "01-matrix/autonomous-force/FAILED/0": "8",
        "01-matrix/autonomous-force/PENDING/1": "7 8",
        "01-matrix/autonomous-force/RUNNING/1": "3",
        "02-retries/grid/auto/r0-d7": "4 6 7 8",
        "02-retries/grid/auto/r0-d[10,20]": "4 6 7 8",
        "02-retries/grid/auto/r0-d[11]": "4 6 7 8",
        "02-retries/grid/auto/r0-d[600,700,800]": "4 6 7 8",
        "02-retries/grid/auto/r1-d[11]": "4 5 6 7 8 9 10 11",
        "02-retries/grid/auto/r1-d[600,700,800]": "4 5 6 7 8 9 10 11",
        "02-retries/grid/auto/r2-d7": "4 5 6 7 8 9 10 11 12 13",
        "02-retries/grid/auto/r2-d[11]": "4 5 6 7 8 9 10 11 12 13",
        "02-retries/grid/auto/r3-d[10,20]": "4 5 6 7 8 9 10 11 12 13 14 15 16",
        "02-retries/grid/auto/r3-d[11]": "4 5 6 7 8 9 10 11 12 13 14 15 16",
        "02-retries/grid/auto/r3-d[600,700,800]": "4 5 6 7 8 9 10 11 12 13 14 15 16",
        "02-retries/grid/auto/rNone-d7": "4 6 7 8",
        "02-retries/grid/auto/rNone-d[10,20]": "4 6 7 8",
        "02-retries/grid/auto/rNone-d[11]": "4 6 7 8",
        "03-caching/crashed-insert/auto": "7",
        "03-caching/direct-insert/auto": "7",
        "03-caching/failed-insert/auto": "7",
        "03-caching/forced-insert/auto": "2 3 7",
        "03-caching/grid/auto/*": "13",
        "04-concurrency/one/0/auto/PENDING": "10",
        "04-concurrency/one/1/auto/PENDING": "10",
        "04-concurrency/random/23": "14 15",
        "04-concurrency/random/29": "12",
        "04-concurrency/random/31": "14 15 20",
        "04-concurrency/random/36": "11",
        "04-concurrency/random/38": "14",
        "04-concurrency/random/4": "12 14 16",
        "04-concurrency/random/46": "12 14 15",
        "04-concurrency/random/58": "18",
        "05-scheduling/auto/force/t0+3600.5": "1 2 3 4",
        "05-scheduling/auto/force/t0+86400": "1 2 3 4",
        "07-creation/with-data/auto/*": "1 2 3",
        "10-walks/101": "7",
        "10-walks/104": "36 37 38 39 40",
        "10-walks/113": "3",
        "10-walks/115": "13 14 17 18 19 21",
        "10-walks/118": "21",
        "10-walks/131": "25",
        "10-walks/139": "7 10 12 14",
        "10-walks/142": "8 34",
        "10-walks/156": "10",
        "10-walks/165": "16 18 20",
        "10-walks/167": "4 6",
        "10-walks/2": "8 9 10 12 15 22",
        "10-walks/21": "24 27",
        "10-walks/23": "5 9",
        "10-walks/24": "7 8 9 10 11 12 18 21 23 24 25 26 27 30",
        "10-walks/31": "28 35 36 40",
        "10-walks/4": "8 10 21 23",
        "10-walks/46": "29",
        "10-walks/50": "11 13 14",
        "10-walks/63": "20 21 22",
        "10-walks/85": "14 22 27 30",
        "10-walks/86": "6 7 8",
        "10-walks/92": "20 21",
        "10-walks/98": "22",
    },
    RESUMING_IS_NOT_COUNTED: {
        "06-flow-runs/deployment/Suspended/1": "9",
        "06-flow-runs/plain/PAUSED/1": "8",
        "06-flow-runs/subflow/PAUSED/0": "7",
        "10-walks/11": "39 40",
    },
    CANCELLED_AT_ONCE: {
        "01-matrix/autonomous-force/CANCELLING/0": "0 2 3 5 7 9 11",
        "01-matrix/autonomous-force/CANCELLING/1": "0 2 4 5 6 8 9",
        "01-matrix/autonomous-force/PAUSED/1": "7 8",
        "01-matrix/autonomous-force/PENDING/0": "1 2",
        "01-matrix/autonomous/AwaitingRetry/0": "8",
        "01-matrix/autonomous/CANCELLING/0": "0 2 3 5 7 8 9 11",
        "01-matrix/autonomous/CANCELLING/1": "0 2 3 4 6 7 8 9",
        "01-matrix/autonomous/CANCELLING/3": "0 1 2 4 5 7 9",
        "01-matrix/autonomous/CANCELLING/4": "0 2",
        "01-matrix/autonomous/Late/2": "1",
        "01-matrix/autonomous/PENDING/4": "1 2",
        "04-concurrency/one/0/auto/CANCELLING": "8 10",
        "04-concurrency/one/1/auto/CANCELLING": "9 10 11 12",
        "04-concurrency/one/2/auto/CANCELLING": "9 10 11 12",
        "04-concurrency/random/23": "19 20",
        "04-concurrency/random/24": "8 13",
        "04-concurrency/random/27": "15",
        "04-concurrency/random/29": "13 14 15 16",
        "04-concurrency/random/38": "18",
        "04-concurrency/random/4": "17",
        "04-concurrency/random/5": "16 17",
        "04-concurrency/random/52": "13",
        "08-filters/0": "111 112",
        "08-filters/2": "109 110",
        "08-filters/3": "130",
        "10-walks/104": "35",
        "10-walks/13": "9 11",
        "10-walks/131": "15 16 21 28",
        "10-walks/29": "21",
        "10-walks/49": "10 15 19",
        "10-walks/50": "28 31 35 38 39",
        "10-walks/55": "4 9 10 11",
        "10-walks/61": "11 18 20 21",
        "10-walks/65": "3 25 28",
        "10-walks/69": "8",
        "10-walks/77": "11",
        "10-walks/78": "27",
        "10-walks/80": "3 4",
        "10-walks/85": "17",
        "13-queue/which/CANCELLING": "3",
    },
    NO_START_AFTER_CANCELLATION: {
        "01-matrix/autonomous/CANCELLED/3": "10",
        "01-matrix/autonomous/CANCELLING/1": "1",
        "01-matrix/autonomous/CANCELLING/3": "6",
        "04-concurrency/random/23": "17",
        "04-concurrency/random/52": "14 16",
        "04-concurrency/random/7": "7 9 11 14 15",
        "07-creation/idempotent/auto/CANCELLED-None-False": "2 3",
        "10-walks/13": "13 14 15 17",
        "10-walks/145": "10",
        "10-walks/167": "25",
        "10-walks/18": "3 4",
        "10-walks/3": "7 10 11 15 16 17 18",
        "10-walks/55": "14 16 17 18 20 21 22 23 27 28 29 30 31 33 34 38",
        "10-walks/69": "13",
        "10-walks/7": "5 7 8 11",
        "10-walks/80": "7 12 15 21 22 27 28",
    },
    ROUND_ROBIN: {
        "13-queue/key-priority": "7",
    },
    DUE_AT_ITS_TIME: {
        "13-queue/set-state-does-not-enqueue": "5",
        "13-queue/which/*": "8",
    },
    LITERAL_WILDCARDS: {
        "08-filters/11": "113 114 145 146 147 148",
        "08-filters/12": "145 146",
        "08-filters/3": "139 140",
        "08-filters/9": "143 144",
    },
    TOO_MANY_INTERVALS: {
        "09-history/0": "85",
        "09-history/2": "91",
    },
    EMPTY_TIME_RANGE: {
        "09-history/0": "97 99",
    },
    INPUT_COERCION: {
        "12-bad-inputs/create/1": "3 5 8",
        "12-bad-inputs/filter/1": "15 16",
        "12-bad-inputs/set/1": "12 13",
    },
}
"""Step numbers by reason and trace name. A trailing * in a name matches any suffix."""


def divergences(trace: Trace) -> dict[int, str]:
    """Return the listed steps of this trace with their reasons."""
    return {
        int(step): reason
        for reason, steps_by_name in LISTED.items()
        for name, steps in steps_by_name.items()
        if _matches(name, trace.id)
        for step in steps.split()
    }


def unmatched_names(suite: str, ids: set[str]) -> list[str]:
    """Return the listed names of the suite that match no trace."""
    names = (name for steps_by_name in LISTED.values() for name in steps_by_name if name.startswith(f"{suite}/"))
    return [name for name in names if not any(_matches(name, id) for id in ids)]


def _matches(name: str, id: str) -> bool:
    return id.startswith(name[:-1]) if name.endswith("*") else id == name
