"""A worker that handles failures of servers, networks and other workers. Replace `send_mail` with your task."""

import asyncio
import os
import random
import signal
import sys
from uuid import uuid4

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

URL = os.environ.get("RUNYARD_URL", "http://127.0.0.1:4200/graphql")
TOKEN = os.environ.get("RUNYARD_TOKEN")  # with the scope `work`, if the server requires tokens
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "60"))
CONCURRENCY = 4  # runs that are executed at the same time

# A run of a subscription with `start` is RUNNING when it arrives, and has its concurrency slots.
SUBSCRIBE = """subscription ($seconds: Float!) {
  scheduledTaskRuns(taskKeys: ["send-mail"], leaseSeconds: $seconds, workerName: "python", start: true) {
    leaseId taskRun { id name parameters runCount } } }"""
SET_STATE = """mutation ($id: ID!, $lease: ID!, $state: StateInput!) {
  setTaskRunState(id: $id, leaseId: $lease, state: $state) { status reason } }"""
RENEW = """mutation ($leases: [ID!]!, $seconds: Float!) {
  renewTaskRunLeases(leaseIds: $leases, leaseSeconds: $seconds) { leases { leaseId status cancelRequested } } }"""


async def send_mail(run):
    """Execute a run and return the result to store. Raise an exception if the run has failed.

    Use `asyncio.to_thread` for computations and blocking libraries: they must not delay the renewal of leases. A run is
    delivered again when its worker dies before it has reported the result. Use the run's id to detect work that is
    already done.
    """
    parameters = run["parameters"] or {}
    await asyncio.sleep(parameters.get("seconds", 1))
    if run["runCount"] <= parameters.get("failures", 0):
        raise RuntimeError("the mail server is unavailable")
    return {"sent": True}


class Worker:
    def __init__(self, server, tasks):
        self.server = server  # uses HTTP: reports do not depend on the WebSocket of the subscription
        self.tasks = tasks
        self.run_tasks = set()  # tasks of all received runs
        self.leases = set()  # lease ids of these runs
        self.work_tasks = {}  # lease id -> task that executes send_mail
        self.is_draining = False

    async def receive_runs(self):
        """Receive and execute one run at a time. Subscribe again after each lost connection.

        Each of the `CONCURRENCY` tasks that do this has its own subscription, with the default `prefetch` of 1: after a
        lost connection, it first finishes its run.
        """
        failures = 0
        while not self.is_draining:  # the client may turn a cancellation into an error
            try:
                transport = WebsocketsTransport(url=URL.replace("http", "ws", 1), init_payload=HEADERS)
                request = GraphQLRequest(SUBSCRIBE, variable_values={"seconds": LEASE_SECONDS})
                async with Client(transport=transport) as socket:
                    async for event in socket.subscribe(request):
                        failures = 0
                        for delivery in event["scheduledTaskRuns"]:
                            await self.start_run(delivery["taskRun"], delivery["leaseId"])
                print("The server has completed the subscription.", flush=True)
            except (TransportError, TimeoutError) as error:
                if is_refusal(error):
                    raise
                print("Disconnected:", repr(error.__cause__ or error), flush=True)
            await back_off(failures)
            failures += 1

    async def start_run(self, run, lease):
        """Execute a run in its own task and wait for it. The run continues when the waiting task is cancelled."""
        if self.is_draining:
            return  # the run is not confirmed, so the end of the subscription requeues it
        self.leases.add(lease)
        task = self.tasks.create_task(self.execute_run(run, lease))
        self.run_tasks.add(task)
        task.add_done_callback(self.run_tasks.discard)
        await asyncio.wait([task])

    async def execute_run(self, run, lease):
        """Confirm the start of a run, execute it and report its result."""
        try:
            # The server requeues a run that is not confirmed, for example when it stops. Work that has no side effects
            # can begin before the response.
            await self.renew_leases([lease])
            if lease in self.leases:
                await self.execute_confirmed_run(run, lease)
            if lease not in self.leases:
                print(run["name"], "lease lost", flush=True)  # a report would have no effect (ABORT)
        except TransportError as error:  # refused (for example, the run was deleted), or the lease was lost
            print(run["name"], "abandoned:", error, flush=True)
        finally:
            self.leases.discard(lease)

    async def execute_confirmed_run(self, run, lease):
        print(run["name"], "RUNNING", flush=True)
        work = self.work_tasks[lease] = asyncio.create_task(send_mail(run))
        await asyncio.wait([work])
        del self.work_tasks[lease]
        if lease not in self.leases:
            return
        if work.cancelled():
            await self.report(run, lease, "CANCELLED")
        elif error := work.exception():
            # The server responds with REJECT when it has scheduled a retry, for any worker.
            await self.report(run, lease, "FAILED", message=str(error))
        else:
            await self.report(run, lease, "COMPLETED", data=work.result())

    async def report(self, run, lease, type, **state):
        """Set the state of a run."""
        # The transition id makes the report idempotent: it can be sent again when the response was lost.
        state |= {"type": type, "details": {"transitionId": str(uuid4())}}
        result = await self.send(SET_STATE, {"id": run["id"], "lease": lease, "state": state}, lease)
        print(run["name"], type, result["status"], result["reason"] or "", flush=True)

    async def renew_leases(self, leases):
        """Renew these leases in one request, which also confirms their runs. Stop the work of lost and cancelled runs."""
        renewed = await self.send(RENEW, {"leases": leases, "seconds": LEASE_SECONDS})
        for result in renewed["leases"]:
            lease, is_lost = result["leaseId"], result["status"] == "LOST"
            if is_lost:
                self.leases.discard(lease)
            if lease in self.work_tasks and (is_lost or result["cancelRequested"]):
                self.work_tasks[lease].cancel()

    async def keep_leases(self):
        """Renew the leases of all runs at a third of the lease time, independently of the work."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            if self.leases:
                await self.renew_leases(list(self.leases))

    async def send(self, document, variables, lease=None):
        """Send a request and return its result. Retries until the server responds or `lease` is lost."""
        failures = 0
        while True:
            try:
                data = await self.server.execute(GraphQLRequest(document, variable_values=variables))
                return next(iter(data.values()))
            except TransportError as error:
                if is_refusal(error) or (lease and lease not in self.leases):
                    raise
                print("No response:", repr(error), flush=True)
            await back_off(failures)
            failures += 1


def is_refusal(error):
    """Return whether the server refused the request permanently: a retry cannot succeed."""
    errors = error.errors or [] if isinstance(error, TransportQueryError) else []
    return any(not each["extensions"].get("retryable") for each in errors)


async def back_off(failures):
    """Wait longer after each consecutive failure. Random delays keep workers from reconnecting at the same time."""
    await asyncio.sleep(random.uniform(0, min(0.5 * 2 ** min(failures, 6), LEASE_SECONDS / 3)))


async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    http = HTTPXAsyncTransport(url=URL, timeout=10, headers=HEADERS)
    async with Client(transport=http, execute_timeout=None) as server, asyncio.TaskGroup() as tasks:
        worker = Worker(server, tasks)
        receiving = [tasks.create_task(worker.receive_runs()) for _ in range(CONCURRENCY)]
        renewing = tasks.create_task(worker.keep_leases())
        await stopping.wait()
        print("Stopping: started runs are finished.", file=sys.stderr, flush=True)
        # Shut down gracefully: the end of a subscription requeues its run unless the run is confirmed.
        worker.is_draining = True
        for task in receiving:
            task.cancel()
        await asyncio.gather(*worker.run_tasks)
        renewing.cancel()


asyncio.run(main())
