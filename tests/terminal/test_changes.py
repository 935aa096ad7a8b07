"""`runyard runs cancel` and `runyard runs retry`: by id and by options, with a question, a dry run and a report."""

import json
import re

import pytest

from tests.builders.api_runs import create_task_run, create_task_runs, set_states_in_turn, set_task_run_state
from tests.builders.queued_runs import run_under_lease
from tests.client import Client
from tests.command import runyard_at, runyard_on_terminal
from tests.serving import SQLITE_ONLY

pytestmark = pytest.mark.processes


async def state_of(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRunState", id=id))["stateType"]


async def count_in(client: Client, state: str) -> int:
    return await client.execute("CountTaskRuns", filter={"state": {"type": {"in": [state]}}})


async def test_one_run_is_cancelled_by_id_without_a_question(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    other = await create_task_run(client, "SCHEDULED")

    completed = await runyard_at(client.url, "runs", "cancel", id, "--message", "Not needed")

    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == "Cancelled 1 of 1 task run.\n"
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["state"]["message"]) == ("CANCELLED", "Not needed")
    assert await state_of(client, other) == "SCHEDULED"


async def test_several_runs_need_a_confirmation_without_a_terminal(client: Client) -> None:
    await create_task_runs(client, 2, "SCHEDULED")

    refused = await runyard_at(client.url, "runs", "cancel", "--key", "t")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "runyard: Cancel 2 task runs? Confirm with --yes, or use --dry-run.\n"
    assert await count_in(client, "SCHEDULED") == 2


@SQLITE_ONLY
@pytest.mark.parametrize(("reply", "cancelled"), [("y", 2), ("n", 0)])
async def test_a_terminal_asks_before_several_runs_are_changed(client: Client, reply: str, cancelled: int) -> None:
    await create_task_runs(client, 2, "SCHEDULED")

    code, output = await runyard_on_terminal(client.url, "runs", "cancel", "--key", "t", typed=f"{reply}\n")

    assert "Cancel 2 task runs? [y/N]: " in output
    assert code == (0 if cancelled else 1)
    assert ("Cancelled 2 of 2 task runs." in output) is bool(cancelled)
    assert await count_in(client, "CANCELLED") == cancelled


async def test_all_runs_that_match_are_cancelled_in_batches(client: Client) -> None:
    for _ in range(3):
        await create_task_runs(client, 800, "SCHEDULED", tags=["old"])
    await create_task_run(client, "SCHEDULED")

    completed = await runyard_at(client.url, "runs", "cancel", "--tag", "old", "--state", "SCHEDULED", "--yes")

    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == "Cancelled 2,400 of 2,400 task runs.\n"
    assert (await count_in(client, "CANCELLED"), await count_in(client, "SCHEDULED")) == (2400, 1)


async def test_a_limit_cancels_the_oldest_runs(client: Client) -> None:
    ids = await create_task_runs(client, 3, "SCHEDULED")

    completed = await runyard_at(client.url, "runs", "cancel", "--key", "t", "--limit", "2", "--yes")

    assert completed.stdout == "Cancelled 2 of 2 task runs.\n"
    assert [await state_of(client, id) for id in ids] == ["CANCELLED", "CANCELLED", "SCHEDULED"]


async def test_a_dry_run_changes_nothing_and_asks_nothing(client: Client) -> None:
    await create_task_runs(client, 2, "SCHEDULED")

    text = await runyard_at(client.url, "runs", "cancel", "--key", "t", "--dry-run")
    document = await runyard_at(client.url, "runs", "cancel", "--key", "t", "--dry-run", "--json")

    assert (text.returncode, text.stdout) == (0, "Would have cancelled 2 of 2 task runs.\n")
    assert json.loads(document.stdout) == {"dryRun": True, "matched": 2, "changed": 2, "rejected": 0, "rejections": []}
    assert await count_in(client, "SCHEDULED") == 2


async def test_a_run_that_a_worker_executes_becomes_cancelling(client: Client) -> None:
    await create_task_run(client, "SCHEDULED")
    id, _ = await run_under_lease(client, "RUNNING")

    completed = await runyard_at(client.url, "runs", "cancel", id)

    assert completed.stdout == "Cancelled 1 of 1 task run.\n"
    assert await state_of(client, id) == "CANCELLING"


async def test_failed_runs_are_retried_after_a_delay(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", taskKey="mail")
    await set_states_in_turn(client, id, "RUNNING", "FAILED")
    completed_run = await create_task_run(client, "SCHEDULED", taskKey="mail")
    await set_states_in_turn(client, completed_run, "RUNNING", "COMPLETED")

    completed = await runyard_at(client.url, "runs", "retry", "--key", "mail", "--delay", "1h")

    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Retried 1 of 1 task run.\n", "")
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["nextScheduledStartTime"]) == ("SCHEDULED", "2030-01-01T13:00:00.000000Z")
    assert await state_of(client, completed_run) == "COMPLETED"


async def test_rejected_runs_are_listed_with_the_reason(client: Client) -> None:
    flow_run = await client.execute("CreateFlow", input={"name": "etl"})
    flow_run = await client.execute("CreateFlowRun", input={"flowId": flow_run["flow"]["id"]})
    id = await create_task_run(client, taskKey="mail", flowRunId=flow_run["flowRun"]["id"])
    await set_task_run_state(client, id, "FAILED", force=True)

    text = await runyard_at(client.url, "runs", "retry", id)
    document = await runyard_at(client.url, "runs", "retry", id, "--json")

    assert (text.returncode, document.returncode) == (1, 1)
    pattern = rf"Retried 0 of 1 task run\.\n\nREJECTED +REASON\n{id}  \S.*\n"
    assert re.fullmatch(pattern, text.stdout), text.stdout
    printed = json.loads(document.stdout)
    assert (printed["matched"], printed["changed"], printed["rejected"]) == (1, 0, 1)
    (rejection,) = printed["rejections"]
    assert rejection["taskRunId"] == id


async def test_ids_of_runs_to_which_the_verb_does_not_apply_are_reported(client: Client) -> None:
    ended = await create_task_run(client, "SCHEDULED")
    await set_task_run_state(client, ended, "CANCELLED")

    completed = await runyard_at(client.url, "runs", "cancel", ended)

    assert (completed.returncode, completed.stdout) == (1, "Cancelled 0 of 0 task runs.\n")
    assert completed.stderr == "1 id ignored: no run with this id can be cancelled.\n"


@SQLITE_ONLY
@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_a_change_without_ids_and_options_is_refused(client: Client, verb: str) -> None:
    await create_task_run(client, "SCHEDULED")

    completed = await runyard_at(client.url, "runs", verb, "--yes")

    assert completed.returncode == 2
    message = " ".join(completed.stderr.replace("│", " ").split())
    assert "Name the runs by id, or select them with --state, --key, --tag or --since." in message
    assert await count_in(client, "SCHEDULED") == 1


@SQLITE_ONLY
async def test_a_terminal_shows_the_progress_of_a_change(client: Client) -> None:
    await create_task_runs(client, 3, "SCHEDULED")

    code, output = await runyard_on_terminal(client.url, "runs", "cancel", "--key", "t", "--yes")

    assert code == 0
    assert "3/3" in output
    assert "Cancelled 3 of 3 task runs." in output
