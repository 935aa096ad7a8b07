"""The checker accepts valid evidence and finds each planted violation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.checker import CHECKS, violations
from chaos.evidence import Enqueued, Evidence, Execution, Fault, Run, State
from chaos.explanations import explanation
from chaos.ledger import Ledger, read_ledger
from chaos.plan import RETRIES, Options, PlannedRun

OPTIONS = Options(1, 60, 5, "sqlite", workers=2, lease_seconds=6)
WORKER, OTHER = "worker-0-1", "worker-1-1"


def planned(number: int, behaviour: str = "return", cancel_after: float | None = None) -> PlannedRun:
    return PlannedRun(number, 0.0, "chaos-loop", behaviour, 0.0, 1, 0.0, cancel_after)


def scheduled(at: float, name: str = "Scheduled") -> State:
    return State("SCHEDULED", name, at)


def running(at: float) -> State:
    return State("RUNNING", "Running", at)


def completed(at: float, number: int, execution: str) -> State:
    return State(
        "COMPLETED",
        "Completed",
        at,
        data={"result": {"number": number, "execution": execution}},
    )


def valid_evidence() -> Evidence:
    """Five runs: one simple, one whose first worker was killed, one that failed, one cancelled, and one that was retried."""
    evidence = Evidence(
        OPTIONS,
        {
            each.key: each
            for each in (
                planned(0),
                planned(1),
                planned(2, "fail"),
                planned(3, cancel_after=0.1),
                planned(4, "raise"),
            )
        },
        servers={WORKER: "server-0", OTHER: "server-0"},
    )
    evidence.runs = [
        Run("a", "run-0", (scheduled(0), running(1), completed(3, 0, "a1"))),
        Run(
            "b",
            "run-1",
            (
                scheduled(0),
                running(1),
                scheduled(9, "AwaitingRetry"),
                running(10),
                completed(12, 1, "b2"),
            ),
        ),
        Run("c", "run-2", (scheduled(0), running(1), State("FAILED", "Failed", 2))),
        Run("d", "run-3", (scheduled(0), State("CANCELLED", "Cancelled", 0.2))),
        Run(
            "e",
            "run-4",
            (
                scheduled(0),
                running(1),
                scheduled(2, "AwaitingRetry"),
                running(3),
                completed(5, 4, "e2"),
            ),
        ),
    ]
    evidence.executions = [
        Execution("a1", "a", OTHER, 20, 1, 1.1, 2.9, "returned"),
        Execution("b1", "b", WORKER, 10, 1, 1.1),
        Execution("b2", "b", OTHER, 20, 2, 10.1, 11.9, "returned"),
        Execution("c1", "c", OTHER, 20, 1, 1.1, 1.9, "Fail"),
        Execution("e1", "e", OTHER, 20, 1, 1.1, 1.9, "PlannedFailure"),
        Execution("e2", "e", OTHER, 20, 2, 3.1, 4.9, "returned"),
    ]
    evidence.faults = [
        Fault("worker killed", WORKER, 2.0, 2.1),
        Fault("worker drained", OTHER, 20.0, 21.0, 0),
    ]
    evidence.enqueued = [Enqueued(run.key, run.id, True) for run in evidence.runs]
    evidence.cancelled_keys = {"run-3"}
    evidence.results = {
        "run-0": {"number": 0, "execution": "a1"},
        "run-1": {"number": 1, "execution": "b2"},
        "run-4": {"number": 4, "execution": "e2"},
    }
    evidence.failures = {
        "run-2": ("TaskFailed", False),
        "run-3": ("TaskCancelled", False),
    }
    return evidence


def test_valid_evidence_has_no_violations() -> None:
    assert violations(valid_evidence()) == []


def change_run(evidence: Evidence, number: int, *states: State) -> None:
    evidence.runs[number] = replace(evidence.runs[number], states=states)


def change_execution(evidence: Evidence, number: int, **changes: Any) -> None:
    evidence.executions[number] = replace(evidence.executions[number], **changes)


def lose_acknowledged_run(evidence: Evidence) -> None:
    evidence.enqueued.append(Enqueued("run-0", "lost", False))


def create_twice(evidence: Evidence) -> None:
    evidence.runs.append(replace(evidence.runs[2], id="c again"))


def acknowledge_two_creations(evidence: Evidence) -> None:
    evidence.enqueued.append(evidence.enqueued[0])


def leave_a_run_running(evidence: Evidence) -> None:
    change_run(evidence, 0, scheduled(0), running(1))
    del evidence.results["run-0"]


def leave_a_queue_entry(evidence: Evidence) -> None:
    evidence.queued = ["a"]


def complete_what_fails(evidence: Evidence) -> None:
    evidence.planned["run-0"] = planned(0, "fail")


def cancel_without_a_request(evidence: Evidence) -> None:
    evidence.cancelled_keys = set()


def fail_with_retries_left(evidence: Evidence) -> None:
    evidence.planned["run-2"] = planned(2, "raise")


def execute_without_a_start(evidence: Evidence) -> None:
    change_run(evidence, 4, scheduled(0), running(1), completed(5, 4, "e2"))


def begin_before_the_start(evidence: Evidence) -> None:
    change_execution(evidence, 0, begun_at=0.9)


def execute_an_unknown_run(evidence: Evidence) -> None:
    evidence.executions.append(Execution("x1", "x", OTHER, 20, 1, 1.0, 1.1, "returned"))


def repeat_without_a_fault(evidence: Evidence) -> None:
    change_execution(evidence, 1, worker=OTHER, pid=20, ended_at=1.9, outcome="returned")


def repeat_after_a_short_suspension(evidence: Evidence) -> None:
    repeat_without_a_fault(evidence)
    evidence.faults.append(Fault("worker suspended", OTHER, 3.0, 4.0))


def repeat_after_lost_responses(evidence: Evidence) -> None:
    repeat_without_a_fault(evidence)
    evidence.faults.append(Fault("responses lost", "server-0", 1.0, 9.0))


def repeat_after_a_quick_restart(evidence: Evidence) -> None:
    repeat_without_a_fault(evidence)
    evidence.faults.append(Fault("server killed", "server-0", 2.0, 3.0))


def repeat_what_a_drained_worker_has_finished(evidence: Evidence) -> None:
    repeat_without_a_fault(evidence)
    evidence.faults.append(Fault("worker drained", OTHER, 2.0, 3.0, 0))


def die_without_a_fault(evidence: Evidence) -> None:
    change_execution(evidence, 0, ended_at=None, outcome=None)
    change_execution(evidence, 0, worker="worker-2-1")
    evidence.servers["worker-2-1"] = "server-0"
    change_run(evidence, 0, scheduled(0), running(1), State("CRASHED", "WorkerLost", 3))
    evidence.planned["run-0"] = planned(0, "fail")
    evidence.failures["run-0"] = ("TaskFailed", True)
    del evidence.results["run-0"]


def report_no_death_of_a_child(evidence: Evidence) -> None:
    evidence.faults[0] = Fault("child killed", "pid 10", 2.0, 2.1)


def lose_a_lease_without_a_fault(evidence: Evidence) -> None:
    change_execution(evidence, 3, reason="lease_lost")


def stop_without_a_cancellation(evidence: Evidence) -> None:
    change_execution(evidence, 3, reason="cancelled")


def execute_a_cancelled_run(evidence: Evidence) -> None:
    change_run(evidence, 3, scheduled(0), State("CANCELLED", "Cancelled", 9))
    evidence.executions.append(Execution("d1", "d", OTHER, 20, 1, 1.1, 1.2, "returned"))


def begin_after_the_end(evidence: Evidence) -> None:
    change_run(evidence, 3, scheduled(0), running(0.1), State("CANCELLED", "Cancelled", 0.2))
    evidence.executions.append(Execution("d1", "d", OTHER, 20, 1, 5.0, 5.2, "returned"))


def invent_a_result(evidence: Evidence) -> None:
    change_run(evidence, 0, scheduled(0), running(1), completed(3, 0, "nobody"))
    evidence.results["run-0"] = {"number": 0, "execution": "nobody"}


def record_the_result_of_a_stopped_execution(evidence: Evidence) -> None:
    change_execution(evidence, 0, outcome="CancelledError")


def record_the_result_of_another_run(evidence: Evidence) -> None:
    change_run(evidence, 0, scheduled(0), running(1), completed(3, 7, "a1"))
    evidence.results["run-0"] = {"number": 7, "execution": "a1"}


def receive_another_result(evidence: Evidence) -> None:
    evidence.results["run-0"] = {"number": 0, "execution": "b2"}


def receive_nothing(evidence: Evidence) -> None:
    del evidence.failures["run-2"]


def receive_a_crash_for_a_failure(evidence: Evidence) -> None:
    evidence.failures["run-2"] = ("TaskFailed", True)


def go_on_without_the_parent(evidence: Evidence) -> None:
    change_execution(evidence, 1, ended_at=9.0, outcome="returned")


def leave_a_child(evidence: Evidence) -> None:
    evidence.left_processes = ["process 20"]


def exit_with_1_after_a_drain(evidence: Evidence) -> None:
    evidence.faults[1] = replace(evidence.faults[1], exit_code=1)


def not_exit_after_a_drain(evidence: Evidence) -> None:
    evidence.faults[1] = replace(evidence.faults[1], exit_code=None)


def exit_unexpectedly(evidence: Evidence) -> None:
    evidence.unexpected_exits = ["worker-0-1 exited with 1"]


PLANTED: dict[str, tuple[Callable[[Evidence], None], ...]] = {
    "no_acknowledged_run_is_lost": (lose_acknowledged_run,),
    "each_key_has_one_run": (create_twice, acknowledge_two_creations),
    "every_run_has_ended": (leave_a_run_running, leave_a_queue_entry),
    "ends_fit_the_plan": (
        complete_what_fails,
        cancel_without_a_request,
        fail_with_retries_left,
    ),
    "each_execution_has_its_own_start": (
        execute_without_a_start,
        begin_before_the_start,
        execute_an_unknown_run,
    ),
    "only_faults_and_failures_repeat_an_execution": (
        repeat_without_a_fault,
        repeat_after_a_short_suspension,
        repeat_after_lost_responses,
        repeat_after_a_quick_restart,
        repeat_what_a_drained_worker_has_finished,
    ),
    "dead_executions_are_explained": (die_without_a_fault,),
    "deaths_of_children_are_reported": (report_no_death_of_a_child,),
    "stopped_executions_are_explained": (
        lose_a_lease_without_a_fault,
        stop_without_a_cancellation,
    ),
    "nothing_begins_after_the_end": (execute_a_cancelled_run, begin_after_the_end),
    "completed_runs_have_the_result_of_an_execution": (
        invent_a_result,
        record_the_result_of_a_stopped_execution,
        record_the_result_of_another_run,
    ),
    "programs_received_what_is_recorded": (
        receive_another_result,
        receive_nothing,
        receive_a_crash_for_a_failure,
    ),
    "children_end_with_their_worker": (go_on_without_the_parent, leave_a_child),
    "drained_workers_exit_with_0": (exit_with_1_after_a_drain, not_exit_after_a_drain),
    "no_process_ends_by_itself": (exit_unexpectedly,),
}


@pytest.mark.parametrize(
    ("check", "plant"),
    [pytest.param(check, plant, id=plant.__name__) for check, plants in PLANTED.items() for plant in plants],
)
def test_the_check_finds_the_planted_violation(check: str, plant: Callable[[Evidence], None]) -> None:
    evidence = valid_evidence()

    plant(evidence)

    assert check in {each.partition(":")[0] for each in violations(evidence)}


def test_each_check_has_a_planted_violation() -> None:
    assert list(PLANTED) == [check.__name__ for check in CHECKS]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("worker suspended", OTHER, 3.0, 9.5),
        Fault("connections refused", "server-0", 3.0, 9.0),
        Fault("server killed", "server-0", 3.0, 6.0),
        Fault("server stopped", "server-0", 5.0, 8.0),
        Fault("child killed", "pid 20", 2.0, 2.0),
        Fault("worker drained", OTHER, 2.0, 3.0, 1),
        Fault("PostgreSQL crashed", "database", 2.0, 8.0),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_fault_of_its_worker_explains_a_repetition(fault: Fault) -> None:
    evidence = valid_evidence()
    repeat_without_a_fault(evidence)

    evidence.faults.append(fault)

    assert explanation(evidence, evidence.executions[1], 10.1) == fault.kind


def test_a_worker_may_exit_with_1_while_its_server_is_unavailable() -> None:
    evidence = valid_evidence()
    exit_with_1_after_a_drain(evidence)

    evidence.faults.append(Fault("server killed", "server-0", 19.0, 25.0))

    assert violations(evidence) == []


def test_a_signal_may_kill_a_worker_that_has_just_been_started() -> None:
    evidence = valid_evidence()

    evidence.faults.append(Fault("worker drained", "worker-1-2", 30.0, 30.1, -15))
    evidence.servers["worker-1-2"] = "server-0"

    assert violations(evidence) == []


def test_a_signal_may_not_kill_a_worker_that_executes_runs() -> None:
    evidence = valid_evidence()

    evidence.faults[1] = replace(evidence.faults[1], exit_code=-15)

    assert [each.partition(":")[0] for each in violations(evidence)] == ["drained_workers_exit_with_0"]


def test_the_failure_of_a_run_may_report_the_death_of_its_process() -> None:
    evidence = valid_evidence()
    report_no_death_of_a_child(evidence)

    died = State("SCHEDULED", "AwaitingRetry", 2.2, "ProcessDied: signal 9")
    change_run(evidence, 1, scheduled(0), running(1), died, running(10), completed(12, 1, "b2"))

    assert violations(evidence) == []


def test_a_run_without_retries_left_may_fail() -> None:
    evidence = valid_evidence()
    fail_with_retries_left(evidence)

    tries = [state for at in range(RETRIES) for state in (running(at), scheduled(at, "AwaitingRetry"))]
    change_run(evidence, 2, scheduled(0), *tries, running(8), State("FAILED", "Failed", 9))

    assert violations(evidence) == []


def test_a_line_that_a_killed_process_began_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).note("begin", run="a")
    with path.open("a") as file:
        file.write('\n{"event": "be')
    Ledger(path).note("end", run="a")

    assert [event["event"] for event in read_ledger(path)] == ["begin", "end"]
