// A worker that handles failures of servers, networks and other workers. Replace `sendMail` with your task.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const URL = process.env.RUNYARD_URL ?? "http://127.0.0.1:4200/graphql";
const TOKEN = process.env.RUNYARD_TOKEN; // with the scope `work`, if the server requires tokens
const HEADERS = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
const LEASE_SECONDS = Number(process.env.LEASE_SECONDS ?? 60);
const CONCURRENCY = 4; // runs that are executed at the same time
const SILENCE_SECONDS = 45; // time limit for the next event; the server sends one at least every 15 seconds

// A run of a subscription with `start` is RUNNING when it arrives, and has its concurrency slots.
const SUBSCRIBE = `subscription ($seconds: Float!) {
  scheduledTaskRuns(taskKeys: ["send-mail"], leaseSeconds: $seconds, workerName: "node", start: true) {
    leaseId taskRun { id name parameters runCount } } }`;
const SET_STATE = `mutation ($id: ID!, $lease: ID!, $state: StateInput!) {
  setTaskRunState(id: $id, leaseId: $lease, state: $state) { status reason } }`;
const RENEW = `mutation ($leases: [ID!]!, $seconds: Float!) {
  renewTaskRunLeases(leaseIds: $leases, leaseSeconds: $seconds) { leases { leaseId status cancelRequested } } }`;

/** Execute a run and return the result to store. Throw an error if the run has failed, or when `signal` is aborted.
 * Use a worker thread for long computations: they must not delay the renewal of leases. A run is delivered again when
 * its worker dies before it has reported the result. Use the run's id to detect work that is already done. */
async function sendMail(run, signal) {
  await sleep((run.parameters?.seconds ?? 1) * 1000, undefined, { signal });
  if (run.runCount <= (run.parameters?.failures ?? 0)) throw new Error("the mail server is unavailable");
  return { sent: true };
}

const leases = new Map(); // lease id -> AbortController of the work, for received runs
const running = new Set(); // promises of these runs
let isDraining = false;

/** Receive and execute one run at a time. Subscribe again after each lost connection.
 * Each of the `CONCURRENCY` calls has its own subscription, with the default `prefetch` of 1: after a lost connection, it
 * first finishes its run. */
async function receiveRuns(client) {
  for (let failures = 0; !isDraining; failures++) {
    let silence;
    try {
      const events = client.iterate({ query: SUBSCRIBE, variables: { seconds: LEASE_SECONDS } });
      const listen = () => (silence = setTimeout(() => client.terminate(), SILENCE_SECONDS * 1000));
      for (listen(); ; listen()) {
        const { value, done } = await events.next();
        clearTimeout(silence);
        if (done) break; // this worker is stopping
        if (value.errors) throw value.errors;
        failures = 0;
        for (const { taskRun, leaseId } of value.data.scheduledTaskRuns) await startRun(taskRun, leaseId);
      }
    } catch (error) {
      if (isRefusal(error)) throw error;
      console.log("Disconnected:", error.message ?? error.reason ?? error);
    }
    clearTimeout(silence);
    if (!isDraining) await backOff(failures);
  }
}

/** Execute a run and wait for it. */
async function startRun(run, lease) {
  if (isDraining) return; // the run is not confirmed, so the end of the subscription requeues it
  const work = new AbortController();
  leases.set(lease, work);
  const done = executeRun(run, lease, work.signal)
    // Refused (for example, the run was deleted), or the lease was lost.
    .catch((error) => console.log(run.name, "abandoned:", error.message ?? error[0].message))
    .finally(() => {
      leases.delete(lease);
      running.delete(done);
    });
  running.add(done);
  await done;
}

/** Confirm the start of a run, execute it and report its result. */
async function executeRun(run, lease, signal) {
  // The server requeues a run that is not confirmed, for example when it stops. Work that has no side effects can begin
  // before the response.
  await renewLeases([lease]);
  if (leases.has(lease)) {
    console.log(run.name, "RUNNING");
    let state;
    try {
      state = { type: "COMPLETED", data: await sendMail(run, signal) };
    } catch (error) {
      // The server responds to FAILED with REJECT when it has scheduled a retry, for any worker.
      state = signal.aborted ? { type: "CANCELLED" } : { type: "FAILED", message: String(error.message) };
    }
    if (leases.has(lease)) return report(run, lease, state);
  }
  console.log(run.name, "lease lost"); // a report would have no effect (ABORT)
}

/** Set the state of a run. */
async function report(run, lease, state) {
  // The transition id makes the report idempotent: it can be sent again when the response was lost.
  state = { ...state, details: { transitionId: randomUUID() } };
  const result = await send(SET_STATE, { id: run.id, lease, state }, lease);
  console.log(run.name, state.type, result.status, result.reason ?? "");
}

/** Renew these leases in one request, which also confirms their runs. Stop the work of lost and cancelled runs. */
async function renewLeases(leaseIds) {
  const renewed = await send(RENEW, { leases: leaseIds, seconds: LEASE_SECONDS });
  for (const result of renewed.leases) {
    const work = leases.get(result.leaseId);
    if (result.status === "LOST") leases.delete(result.leaseId);
    if (result.status === "LOST" || result.cancelRequested) work?.abort();
  }
}

/** Renew the leases of all runs at a third of the lease time, independently of the work. */
async function keepLeases() {
  for (;;) {
    await sleep((LEASE_SECONDS / 3) * 1000);
    if (leases.size > 0) await renewLeases([...leases.keys()]);
  }
}

/** Send a request and return its result. Retries until the server responds or `lease` is lost.
 * Uses HTTP: reports do not depend on the WebSocket of the subscription. */
async function send(query, variables, lease) {
  for (let failures = 0; ; failures++) {
    try {
      const body = JSON.stringify({ query, variables });
      const headers = { "content-type": "application/json", ...HEADERS };
      const response = await fetch(URL, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
      const { data, errors } = await response.json();
      if (errors) throw errors;
      return Object.values(data)[0];
    } catch (error) {
      if (isRefusal(error) || (lease && !leases.has(lease))) throw error;
      console.log("No response:", error.message ?? error[0].message);
    }
    await backOff(failures);
  }
}

/** Return whether the server refused the request permanently: a retry cannot succeed. */
const isRefusal = (error) => Array.isArray(error) && error.some((each) => !each.extensions?.retryable);

/** Wait longer after each consecutive failure. Random delays keep workers from reconnecting at the same time. */
const backOff = (failures) =>
  sleep(Math.random() * Math.min(0.5 * 2 ** Math.min(failures, 6), LEASE_SECONDS / 3) * 1000);

// receiveRuns reconnects: it waits with a limit on the delay, and also when the server cannot be reached.
const url = URL.replace("http", "ws");
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams: HEADERS, retryAttempts: 0 });

/** Shut down gracefully: the end of a subscription requeues its run unless the run is confirmed. */
async function drain() {
  isDraining = true;
  console.error("Stopping: started runs are finished.");
  await client.dispose();
  await Promise.all(running);
  process.exit(0);
}
process.once("SIGTERM", drain).once("SIGINT", drain);
keepLeases();
for (let i = 0; i < CONCURRENCY; i++) receiveRuns(client);
