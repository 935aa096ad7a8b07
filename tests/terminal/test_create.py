"""`runyard runs create`: creates and queues a run; with --wait, prints its result and exits by the outcome."""

import json

import pytest

from tests.builders.api_runs import count_task_runs, create_task_run, set_task_run_state
from tests.client import Client
from tests.command import read_line, running_runyard, runyard_at
from tests.serving import SQLITE_ONLY, ServerProcess

pytestmark = pytest.mark.processes


async def claim(client: Client) -> tuple[str, str]:
    """Receive the next run of the task key `mail`, set it RUNNING, and return its id and its lease id."""
    deliveries: list[dict[str, object]] = []
    while not deliveries:
        payload = await client.execute("ClaimTaskRuns", taskKeys=["mail"], waitSeconds=5.0, leaseSeconds=600.0)
        deliveries = payload["deliveries"]
    (delivery,) = deliveries
    id, lease_id = delivery["taskRun"]["id"], delivery["leaseId"]  # type: ignore[index]
    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    return id, lease_id  # type: ignore[return-value]


async def test_a_run_is_created_and_queued_with_its_options(client: Client) -> None:
    completed = await runyard_at(
        client.url,
        *("runs", "create", "mail", "--parameters", '{"to": ["Ada"]}', "--tag", "a", "--tag", "b", "--name", "first"),
    )

    assert (completed.returncode, completed.stderr) == (0, "")
    run = await client.execute("GetTaskRun", id=completed.stdout.strip())
    assert (run["taskKey"], run["name"], run["tags"]) == ("mail", "first", ["a", "b"])
    assert run["parameters"] == {"to": ["Ada"]}
    assert (run["stateType"], run["queueEntry"]["availableAt"]) == ("SCHEDULED", "2030-01-01T12:00:00.000000Z")


async def test_a_delay_counts_from_the_time_of_the_server(client: Client) -> None:
    completed = await runyard_at(client.url, "runs", "create", "mail", "--delay", "90min", "--json")

    assert json.loads(completed.stdout)["queueEntry"]["availableAt"] == "2030-01-01T13:30:00.000000Z"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parameters", "{to"], "Invalid value for --parameters: Expecting property name"),
        (["--delay", "soon"], "Invalid value for --delay: 'soon' is not a duration."),
    ],
)
async def test_an_invalid_option_creates_nothing(client: Client, options: list[str], message: str) -> None:
    completed = await runyard_at(client.url, "runs", "create", "mail", *options)

    assert completed.returncode == 2
    assert message in " ".join(completed.stderr.replace("│", " ").split())
    assert await count_task_runs(client) == 0


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("state", "code", "output", "error"),
    [
        ({"type": "COMPLETED", "data": {"sent": 3}}, 0, {"sent": 3}, None),
        ({"type": "COMPLETED"}, 0, None, None),
        ({"type": "FAILED", "message": "No such\nmailbox"}, 1, "", "runyard: The task run is FAILED: No such mailbox"),
        ({"type": "CRASHED"}, 1, "", "runyard: The task run is CRASHED."),
        ({"type": "CANCELLED", "name": "Expired"}, 1, "", "runyard: The task run is CANCELLED (Expired)."),
    ],
)
async def test_waiting_prints_the_result_and_exits_by_the_outcome(
    client: Client, state: dict[str, object], code: int, output: object, error: str | None
) -> None:
    async with running_runyard("runs", "create", "mail", "--wait", RUNYARD_URL=client.url) as command:
        line = await read_line(command.stderr)
        id, lease_id = await claim(client)
        await set_task_run_state(client, id, lease_id=lease_id, **state)  # type: ignore[arg-type]
        printed, errors = await command.communicate()

    assert line == f"Created the task run {id}. Waiting for its end ..."
    assert command.returncode == code
    assert printed.decode() == (output if output == "" else json.dumps(output, indent=2) + "\n")
    assert errors.decode() == ("" if error is None else f"{error}\n")


async def test_a_retried_failure_is_no_end(client: Client) -> None:
    async with running_runyard("runs", "create", "mail", "--wait", "--json", RUNYARD_URL=client.url) as command:
        await read_line(command.stderr)
        id, lease_id = await claim(client)
        await set_task_run_state(client, id, "SCHEDULED", lease_id=lease_id)
        id, lease_id = await claim(client)
        await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id, data=7)
        printed, _ = await command.communicate()

    assert command.returncode == 0
    run = json.loads(printed)
    assert (run["id"], run["state"]["data"]) == (id, 7)
    assert [state["type"] for state in run["states"]] == ["SCHEDULED", "RUNNING", "SCHEDULED", "RUNNING", "COMPLETED"]


async def test_waiting_continues_after_a_restart_of_the_server(server_process: ServerProcess) -> None:
    client = await server_process.start()
    async with running_runyard("runs", "create", "mail", "--wait", RUNYARD_URL=server_process.url) as command:
        await read_line(command.stderr)
        id, lease_id = await claim(client)
        # A change of another run shows that the command is not confused by it.
        await create_task_run(client, taskKey="other")
        await server_process.terminate()
        client = await server_process.start()
        await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id, data="late")
        printed, _ = await command.communicate()

    assert (command.returncode, printed) == (0, b'"late"\n')


async def test_waiting_for_a_deleted_run_fails(server_process: ServerProcess) -> None:
    client = await server_process.start(RUNYARD_KEEP_ALIVE_SECONDS="0.1")
    async with running_runyard("runs", "create", "mail", "--wait", RUNYARD_URL=server_process.url) as command:
        id, _ = await claim(client)
        await client.execute("DeleteTaskRun", id=id)
        printed, errors = await command.communicate()

    assert (command.returncode, printed) == (1, b"")
    assert errors.decode().splitlines()[-1] == f"runyard: The task run {id} was deleted."
