"""Checks the evidence of a chaos test against the promises of the client. Each check yields the violations it finds.

The evidence comes from the ledgers and the tables, not from responses of servers, except for what programs received.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from signal import SIGTERM
from typing import Any

from chaos.evidence import DATABASE, TERMINAL, Evidence, Execution, Run
from chaos.explanations import death_explanation, explanation
from chaos.plan import ENDS_FAILED, RETRIES

SKEW_SECONDS = 0.05
"""Maximum difference between a time in a ledger and the timestamp of a state: both are from the clock of the machine."""

ORPHAN_SECONDS = 6.0
"""Maximum time for a child to notice the death of its parent, and to end: 5 seconds, and one for a busy machine."""

DELIVERY_SECONDS = 2.0
"""Maximum time from the start of a run by a claim to its first line, without a fault, on a busy machine."""

MAX_LAPSES = 5
"""Number of lost workers after which a run is undeliverable."""


def violations(evidence: Evidence) -> list[str]:
    """Return a description of every violated promise."""
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(evidence)]


def no_acknowledged_run_is_lost(evidence: Evidence) -> Iterator[str]:
    keys = {run.id: run.key for run in evidence.runs}
    for each in evidence.enqueued:
        if keys.get(each.run) != each.key:
            yield f"{each.key} was acknowledged as {each.run}, which is {keys.get(each.run)}"


def each_key_has_one_run(evidence: Evidence) -> Iterator[str]:
    counts = Counter(run.key for run in evidence.runs)
    for key in {*evidence.planned, *counts}:
        if counts[key] != 1:
            yield f"{key} has {counts[key]} runs"
    for key, count in Counter(each.key for each in evidence.enqueued if each.created).items():
        if count > 1:
            yield f"{key} was acknowledged as created {count} times"


def every_run_has_ended(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        if run.end.type not in TERMINAL:
            yield f"{run.key} is {run.end.name}"
    for id in evidence.queued:
        yield f"{id} is in the queue"


def ends_fit_the_plan(evidence: Evidence) -> Iterator[str]:
    executions = evidence.executions_by_run()
    for run in (run for run in evidence.runs if run.key in evidence.planned):
        planned, end = evidence.planned[run.key], run.end
        if end.type == "COMPLETED" and planned.behaviour in ENDS_FAILED:
            yield f"{run.key} is COMPLETED, and was planned to {planned.behaviour}"
        if end.type == "CANCELLED" and run.key not in evidence.cancelled_keys:
            yield f"{run.key} is CANCELLED, and no program cancelled it"
        if end.type in ("FAILED", "CRASHED") and _could_be_retried(run, planned.behaviour, executions):
            yield f"{run.key} is {end.name} ({end.message}) after {_attempts(run)} attempts"


def _could_be_retried(run: Run, behaviour: str, executions: dict[str, list[Execution]]) -> bool:
    if run.end.name == "Undeliverable":
        return len(executions.get(run.id, ())) == 0 and len(run.states) <= MAX_LAPSES
    if behaviour in ENDS_FAILED and any(each.outcome for each in executions.get(run.id, ())):
        return False
    # A failure while the run is cancelled is not retried.
    if any(state.type == "CANCELLING" for state in run.states):
        return False
    return _attempts(run) <= RETRIES


def _attempts(run: Run) -> int:
    """Return the number of attempts that count: a RUNNING run that is requeued without a failure has made none."""
    attempts, was_running = 0, False
    for state in run.states:
        attempts += state.type == "RUNNING"
        attempts -= state.name == "AwaitingRedelivery" and was_running
        was_running = state.type == "RUNNING"
    return attempts


def each_execution_has_its_own_start(evidence: Evidence) -> Iterator[str]:
    """The n-th execution of a run begins after the n-th RUNNING state of its history."""
    runs = {run.id: run for run in evidence.runs}
    for id, executions in evidence.executions_by_run().items():
        if id not in runs:
            yield f"{id} was executed and does not exist"
            continue
        starts = [state.at for state in runs[id].states if state.type == "RUNNING"]
        for number, execution in enumerate(executions, 1):
            before = sum(at <= execution.begun_at + SKEW_SECONDS for at in starts)
            if before < number:
                yield f"{runs[id].key}: execution {number} began after {before} RUNNING states ({_describe(execution)})"


def only_faults_and_failures_repeat_an_execution(evidence: Evidence) -> Iterator[str]:
    keys = {run.id: run.key for run in evidence.runs}
    for id, executions in evidence.executions_by_run().items():
        for first, second in pairwise(executions):
            if explanation(evidence, first, second.begun_at) is None:
                yield f"{keys.get(id)}: {_describe(first)}, then {_describe(second)}"


def dead_executions_are_explained(evidence: Evidence) -> Iterator[str]:
    """An execution without an end in the ledger died with its process."""
    for execution in evidence.executions:
        if execution.outcome is None and death_explanation(evidence, execution) is None:
            yield _describe(execution)


def deaths_of_children_are_reported(evidence: Evidence) -> Iterator[str]:
    """The worker of a killed child reports its runs as failed, unless something happens to the worker or its server."""
    runs = {run.id: run for run in evidence.runs}
    killed_at = {fault.target: fault.start for fault in evidence.faults if fault.kind == "child killed"}
    for execution in (each for each in evidence.executions if each.outcome is None):
        at = killed_at.get(f"pid {execution.pid}")
        if at is None or execution.run not in runs or _is_disturbed(evidence, execution, at):
            continue
        later = [state for state in runs[execution.run].states if state.at >= at]
        if later and later[0].type != "CANCELLED" and not (later[0].message or "").startswith("ProcessDied"):
            yield f"{_describe(execution)}, killed at {at:.2f}; then {later[0].name}: {later[0].message}"


def _is_disturbed(evidence: Evidence, execution: Execution, at: float) -> bool:
    """Return whether anything else happened to the worker or its server within a lease before or after the death."""
    targets = (execution.worker, evidence.servers[execution.worker], DATABASE)
    lease = evidence.options.lease_seconds
    return any(
        fault.target in targets and fault.start <= at + lease and fault.end >= at - lease for fault in evidence.faults
    )


def stopped_executions_are_explained(evidence: Evidence) -> Iterator[str]:
    """An execution was stopped by a cancellation or a fault.

    Cancelling a run whose lease is not confirmed ends the lease at once.
    """
    keys = {run.id: run.key for run in evidence.runs}
    for each in (each for each in evidence.executions if keys.get(each.run) not in evidence.cancelled_keys):
        if each.reason == "cancelled":
            yield f"{_describe(each)} was stopped as cancelled, and no program cancelled it"
        is_lost = each.reason in ("lease_lost", "lease_ended")
        if is_lost and each.ended_at is not None and explanation(evidence, each, each.ended_at) is None:
            yield f"{_describe(each)} lost its lease"


def nothing_begins_after_the_end(evidence: Evidence) -> Iterator[str]:
    executions = evidence.executions_by_run()
    for run in evidence.runs:
        found = executions.get(run.id, [])
        if found and not any(state.type == "RUNNING" for state in run.states):
            yield f"{run.key} never started, and has {len(found)} executions"
        late = [each for each in found if each.begun_at > run.end.at + SKEW_SECONDS] if run.end.type in TERMINAL else []
        for execution in late:
            since = run.end.at - evidence.options.lease_seconds
            if not _was_on_its_way(run, execution) and not _is_affected(evidence, execution, since):
                yield f"{run.key} ended {execution.begun_at - run.end.at:.2f} s before {_describe(execution)}"


def _was_on_its_way(run: Run, execution: Execution) -> bool:
    """Return whether the run was started, and cancelled while the response to the claim was on its way to the worker."""
    return any(state.type == "RUNNING" and state.at >= execution.begun_at - DELIVERY_SECONDS for state in run.states)


def _is_affected(evidence: Evidence, execution: Execution, since: float) -> bool:
    """Return whether a fault held up the worker, or its responses, between `since` and the beginning of the execution."""
    targets = (execution.worker, evidence.servers[execution.worker])
    return any(
        fault.target in targets and fault.start <= execution.begun_at and fault.end >= since
        for fault in evidence.faults
    )


def completed_runs_have_the_result_of_an_execution(evidence: Evidence) -> Iterator[str]:
    executions = {each.id: each for each in evidence.executions}
    for run in (run for run in evidence.runs if run.end.type == "COMPLETED" and run.key in evidence.planned):
        result = _result_of(run)
        execution = executions.get(result.get("execution", ""))
        if execution is None or execution.run != run.id or execution.outcome != "returned":
            yield f"{run.key} is COMPLETED with {run.end.data}, which no execution returned"
        elif result.get("number") != evidence.planned[run.key].number:
            yield f"{run.key} has the result of another run: {result}"


def _result_of(run: Run) -> dict[str, Any]:
    result = run.end.data.get("result") if isinstance(run.end.data, dict) else None
    return result if isinstance(result, dict) else {}


def programs_received_what_is_recorded(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        if run.end.type not in TERMINAL:
            continue
        received = evidence.failures.get(run.key, (None, False))
        if run.key in evidence.results:
            if run.end.type != "COMPLETED" or evidence.results[run.key] != _result_of(run):
                yield f"{run.key} is {run.end.type} with {run.end.data}; received {evidence.results[run.key]}"
        elif received != EXCEPTIONS[run.end.type]:
            yield f"{run.key} is {run.end.type}; received {received}"


EXCEPTIONS = {
    "COMPLETED": ("a result", False),
    "FAILED": ("TaskFailed", False),
    "CRASHED": ("TaskFailed", True),
    "CANCELLED": ("TaskCancelled", False),
}
"""What a program that waits for a run receives, by the type of the run's end."""


def children_end_with_their_worker(evidence: Evidence) -> Iterator[str]:
    killed_at = {fault.target: fault.start for fault in evidence.faults if fault.kind.startswith("worker killed")}
    for each in evidence.executions:
        last_sign = each.begun_at if each.ended_at is None else each.ended_at
        if last_sign > killed_at.get(each.worker, float("inf")) + ORPHAN_SECONDS:
            yield f"{_describe(each)}, {last_sign - killed_at[each.worker]:.1f} s after the death of its worker"
    for process in evidence.left_processes:
        yield f"{process} is left"


def drained_workers_exit_with_0(evidence: Evidence) -> Iterator[str]:
    """A worker that a signal stops exits with 0, or with 1 if its server may not know about some runs.

    SIGTERM kills a worker that has just been started and does not handle signals yet: it has executed nothing.
    """
    started = {each.worker for each in evidence.executions}
    for drain in (fault for fault in evidence.faults if fault.kind == "worker drained"):
        if drain.exit_code == 0 or (drain.exit_code == 1 and _server_was_away(evidence, drain.target, drain.start)):
            continue
        if drain.exit_code == -SIGTERM and drain.target not in started:
            continue
        yield f"{drain.target} exited with {drain.exit_code} after {drain.end - drain.start:.1f} s"


def _server_was_away(evidence: Evidence, worker: str, start: float) -> bool:
    targets = (evidence.servers[worker], DATABASE)
    drained_by = start + evidence.options.drain_seconds
    return any(
        fault.target in targets and fault.start <= drained_by + 5 and fault.end >= start for fault in evidence.faults
    )


def no_process_ends_by_itself(evidence: Evidence) -> Iterator[str]:
    yield from evidence.unexpected_exits


def _describe(execution: Execution) -> str:
    end = (
        "died"
        if execution.ended_at is None
        else f"{execution.outcome} after {execution.ended_at - execution.begun_at:.2f} s"
    )
    reason = f", told {execution.reason}" if execution.reason else ""
    return f"execution {execution.id[:8]} on {execution.worker} at {execution.begun_at:.2f} ({end}{reason})"


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    no_acknowledged_run_is_lost,
    each_key_has_one_run,
    every_run_has_ended,
    ends_fit_the_plan,
    each_execution_has_its_own_start,
    only_faults_and_failures_repeat_an_execution,
    dead_executions_are_explained,
    deaths_of_children_are_reported,
    stopped_executions_are_explained,
    nothing_begins_after_the_end,
    completed_runs_have_the_result_of_an_execution,
    programs_received_what_is_recorded,
    children_end_with_their_worker,
    drained_workers_exit_with_0,
    no_process_ends_by_itself,
)
