"""A worker that keeps its word when servers, networks and other workers do not. `send_mail` stands for your work."""

import asyncio
import os
import random
import signal
from uuid import uuid4

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

URL = os.environ.get("RUNYARD_URL", "http://127.0.0.1:4200/graphql")
TOKEN = os.environ.get("RUNYARD_TOKEN")  # with the scope `work`, where the server lets in holders of tokens alone
SHOWN = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "60"))
AT_ONCE = 4  # runs that are worked on at a time
PREFETCH = 2  # runs that lie ready here meanwhile; more save no time, and keep other workers from them

SUBSCRIBE = """subscription ($prefetch: Int!, $seconds: Float!) {
  scheduledTaskRuns(taskKeys: ["send-mail"], prefetch: $prefetch, leaseSeconds: $seconds, workerName: "python") {
    leaseId taskRun { id name parameters runCount } } }"""
SET_STATE = """mutation ($id: ID!, $lease: ID!, $state: StateInput!) {
  setTaskRunState(id: $id, leaseId: $lease, state: $state) { status reason delaySeconds } }"""
RENEW = """mutation ($leases: [ID!]!, $seconds: Float!) {
  renewTaskRunLeases(leaseIds: $leases, leaseSeconds: $seconds) { leaseId status cancelRequested } }"""
RELEASE = """mutation ($leases: [ID!]!, $delay: Float!) {
  releaseTaskRuns(leaseIds: $leases, delaySeconds: $delay) { leaseId status } }"""


async def send_mail(run):
    """What is to be stored as the result. Raise where the run has failed.

    Work that does not await (a computation, a blocking library) goes through `asyncio.to_thread`: the heartbeat has to
    go on beside it. A run may come twice when a worker dies in between, so use its id to notice what is done already.
    """
    parameters = run["parameters"] or {}
    await asyncio.sleep(parameters.get("seconds", 1))
    if run["runCount"] < parameters.get("failures", 0):
        raise RuntimeError("the mail server is away")
    return {"sent": True}


class Worker:
    def __init__(self, server, tasks):
        self.server = server  # over HTTP: a report does not depend on the WebSocket that a delivery came by
        self.tasks = tasks
        self.places = asyncio.Semaphore(AT_ONCE)
        self.runs = set()  # the tasks of all runs that were delivered
        self.held = set()  # the leases of those that are begun
        self.working = {}  # lease -> the task that does the work
        self.is_draining = False

    async def receive(self):
        """Subscribe, and again whenever the connection or the server goes away."""
        variables = {"prefetch": PREFETCH, "seconds": LEASE_SECONDS}
        failures = 0
        while True:
            try:
                transport = WebsocketsTransport(url=URL.replace("http", "ws", 1), init_payload=SHOWN)
                async with Client(transport=transport) as socket:
                    async for event in socket.subscribe(GraphQLRequest(SUBSCRIBE, variable_values=variables)):
                        failures = 0
                        for delivery in event["scheduledTaskRuns"]:
                            run = self.tasks.create_task(self.take(delivery["taskRun"], delivery["leaseId"]))
                            self.runs.add(run)
                            run.add_done_callback(self.runs.discard)
                print("The server is stopping.", flush=True)
            except (TransportError, TimeoutError) as error:
                if is_refusal(error):
                    raise
                print("Disconnected:", repr(error.__cause__ or error), flush=True)
            await back_off(failures)
            failures += 1

    async def take(self, run, lease):
        """Carry a run out once there is a place for it."""
        async with self.places:
            if self.is_draining:
                return  # it was not begun, so the end of the subscription has given it back
            self.held.add(lease)
            try:
                await self.carry_out(run, lease)
            except TransportError as error:  # refused (the run was deleted, say), or the lease was lost meanwhile
                print(run["name"], "is given up:", error, flush=True)
            finally:
                self.held.discard(lease)

    async def carry_out(self, run, lease):
        """Work, and report it. Only ACCEPT for RUNNING means that the work may begin."""
        answer = await self.report(run, lease, "RUNNING")
        if answer["status"] != "ACCEPT" or lease not in self.held:
            # WAIT: no slot is free, or it is too early. REJECT: there is a result already. ABORT: it is somebody else's,
            # or must not run now. Handing it back is right for all: what is not ours any more is not changed by it.
            await self.ask(RELEASE, {"leases": [lease], "delay": answer["delaySeconds"] or 30}, lease)
            return
        work = self.working[lease] = asyncio.create_task(send_mail(run))
        await asyncio.wait([work])
        del self.working[lease]
        if lease not in self.held:
            print(run["name"], "was lost", flush=True)  # stop: whatever we reported would be answered ABORT
        elif work.cancelled():
            await self.report(run, lease, "CANCELLED")
        elif error := work.exception():
            # REJECT as the answer means that it will be tried again, by any worker.
            await self.report(run, lease, "FAILED", message=str(error))
        else:
            await self.report(run, lease, "COMPLETED", data=work.result())

    async def report(self, run, lease, type, **state):
        # An id for each change: a report whose answer was lost is sent again, and still is made once.
        state |= {"type": type, "details": {"transitionId": str(uuid4())}}
        answer = await self.ask(SET_STATE, {"id": run["id"], "lease": lease, "state": state}, lease)
        print(run["name"], type, answer["status"], answer["reason"] or "", flush=True)
        return answer

    async def beat(self):
        """Renew all that is held, in one call. Runs that are not begun are not renewed: that would acknowledge them."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            if self.held:
                for result in await self.ask(RENEW, {"leases": list(self.held), "seconds": LEASE_SECONDS}):
                    lease, is_lost = result["leaseId"], result["status"] == "LOST"
                    if is_lost:
                        self.held.discard(lease)
                    if lease in self.working and (is_lost or result["cancelRequested"]):
                        self.working[lease].cancel()

    async def ask(self, document, variables, lease=None):
        """The answer to a request, which is sent until there is one, or until `lease` is lost."""
        failures = 0
        while True:
            try:
                answer = await self.server.execute(GraphQLRequest(document, variable_values=variables))
                return next(iter(answer.values()))
            except TransportError as error:
                if is_refusal(error) or (lease and lease not in self.held):
                    raise
                print("No answer:", repr(error), flush=True)
            await back_off(failures)
            failures += 1


def is_refusal(error):
    """Whether asking again would not help."""
    errors = error.errors or [] if isinstance(error, TransportQueryError) else []
    return any(not each["extensions"].get("retryable") for each in errors)


async def back_off(failures):
    """Wait longer after each failure in a row, and by chance, so that not all workers come back at one moment."""
    await asyncio.sleep(random.uniform(0, min(0.5 * 2 ** min(failures, 6), LEASE_SECONDS / 3)))


async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    http = HTTPXAsyncTransport(url=URL, timeout=10, headers=SHOWN)
    async with Client(transport=http, execute_timeout=None) as server, asyncio.TaskGroup() as tasks:
        worker = Worker(server, tasks)
        receiving, beating = tasks.create_task(worker.receive()), tasks.create_task(worker.beat())
        await stopping.wait()
        # Drain: the end of the subscription gives back what is not begun; what is begun is finished, and renewed meanwhile.
        worker.is_draining = True
        receiving.cancel()
        await asyncio.gather(*worker.runs)
        beating.cancel()


asyncio.run(main())
