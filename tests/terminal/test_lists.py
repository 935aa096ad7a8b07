"""`runyard runs list` and `runyard queues`: tables and JSON, and the options that select runs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders.api_runs import create_task_run, create_task_runs, set_states_in_turn, set_task_run_state
from tests.client import Client
from tests.clock import ManualClock
from tests.command import runyard_at, runyard_on_terminal
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = pytest.mark.processes


async def listed_ids(client: Client, *options: str) -> list[str]:
    """Return the ids that `runyard runs list` prints as JSON."""
    completed = await runyard_at(client.url, "runs", "list", "--json", *options)
    assert completed.returncode == 0, completed.stderr
    return [run["id"] for run in json.loads(completed.stdout)]


async def test_task_runs_are_listed_as_a_table_newest_first(server: RunningServer, client: Client) -> None:
    failed = await create_task_run(client, taskKey="send-mail", name="first", tags=["mail", "daily"])
    await set_states_in_turn(client, failed, "RUNNING")
    server.clock.advance(90.5)
    await set_task_run_state(client, failed, "FAILED", message="The mailbox\nis \x1b[31mfull")
    waiting = await create_task_run(client, "SCHEDULED", taskKey="import", name="second")

    completed = await runyard_at(client.url, "runs", "list")

    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == (
        f"{'ID':36}  STATE      SINCE                 KEY        NAME    RUN TIME    TAGS        MESSAGE\n"
        f"{waiting}  SCHEDULED  2030-01-01 12:01:30Z  import     second  -\n"
        f"{failed}  FAILED     2030-01-01 12:01:30Z  send-mail  first   1 min 30 s  mail,daily  "
        "The mailbox is [31mfull\n"
    )


async def test_a_list_as_json_is_one_document(server: RunningServer, client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", taskKey="send-mail", name="first", tags=["mail"])

    completed = await runyard_at(client.url, "runs", "list", "--json")

    assert json.loads(completed.stdout) == (await client.execute("FindTaskRuns"))["nodes"]
    assert json.loads(completed.stdout) == [
        {
            "id": id,
            "name": "first",
            "taskKey": "send-mail",
            "tags": ["mail"],
            "stateType": "SCHEDULED",
            "stateName": "Scheduled",
            "state": {"timestamp": "2030-01-01T12:00:00.000000Z", "message": None},
            "createdAt": "2030-01-01T12:00:00.000000Z",
            "startTime": None,
            "endTime": None,
            "estimatedRunTimeSeconds": 0.0,
            "runCount": 0,
        }
    ]


async def test_options_select_task_runs_by_state_key_and_tag(client: Client) -> None:
    mail = await create_task_run(client, "SCHEDULED", taskKey="mail", tags=["a"])
    both = await create_task_run(client, "SCHEDULED", taskKey="import", tags=["a", "b"])
    late = await create_task_run(client, {"type": "SCHEDULED", "name": "Late"}, taskKey="export")
    pending = await create_task_run(client, taskKey="mail")

    found = [
        await listed_ids(client, *options.split())
        for options in (
            "",
            "--state pending",
            "--state Late --state PENDING",
            "--state SCHEDULED --key mail",
            "--key mail --key export",
            "--tag a",
            "--tag a --tag b",
            "--limit 2",
        )
    ]

    assert found == [
        [pending, late, both, mail],
        [pending],
        [pending, late],
        [mail],
        [pending, late, mail],
        [both, mail],
        [both],
        [pending, late],
    ]


@SQLITE_ONLY
async def test_since_selects_the_runs_created_within_this_time(tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC) - timedelta(hours=2))
    async with run_server(tmp_path, clock) as server:
        await create_task_run(server.client)
        clock.advance(5400)
        recent = await create_task_run(server.client)

        found = await listed_ids(server.client, "--since", "1h")

    assert found == [recent]


async def test_a_long_list_is_read_in_pages_up_to_the_limit(client: Client) -> None:
    ids = (await create_task_runs(client, 1000))[::-1]

    completed = await runyard_at(client.url, "runs", "list", "--json", "--limit", "900")

    assert [run["id"] for run in json.loads(completed.stdout)] == ids[:900]
    assert completed.stderr == "More task runs match. Increase --limit to list them.\n"
    assert await listed_ids(client, "--limit", "1000") == ids


@SQLITE_ONLY
async def test_a_terminal_gets_lines_of_its_width(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", taskKey="send-mail")

    code, output = await runyard_on_terminal(client.url, "runs", "list", columns=60)

    assert code == 0
    header, line = output.splitlines()
    assert header == f"{'ID':36}  STATE      SINCE     …"
    assert line == f"{id}  SCHEDULED  2030-01-01…"


async def test_queues_are_listed_with_their_numbers_of_runs(server: RunningServer, client: Client) -> None:
    await create_task_runs(client, 2, "SCHEDULED", taskKey="send-mail")
    server.clock.advance(7260)
    await create_task_run(client, "SCHEDULED", taskKey="import")

    table = await runyard_at(client.url, "queues")
    selected = await runyard_at(client.url, "queues", "--key", "import", "--json")

    assert (table.returncode, table.stderr) == (0, "")
    assert table.stdout == (
        "KEY        SCHEDULED  RETRY  DELAYED  LEASED  OLDEST WAIT  SUBSCRIBERS  PAUSED SINCE\n"
        "import     1          0      0        0       0 s          0            -\n"
        "send-mail  2          0      0        0       2 h 1 min    0            -\n"
    )
    (queue,) = json.loads(selected.stdout)
    assert (queue["taskKey"], queue["scheduled"], queue["maxScheduled"]) == ("import", 1, 100_000)
