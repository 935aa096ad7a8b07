// A worker that keeps its word when servers, networks and other workers do not. `sendMail` stands for your work.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const URL = process.env.RUNYARD_URL ?? "http://127.0.0.1:4200/graphql";
const TOKEN = process.env.RUNYARD_TOKEN; // with the scope `work`, where the server lets in holders of tokens alone
const SHOWN = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
const LEASE_SECONDS = Number(process.env.LEASE_SECONDS ?? 60);
const AT_ONCE = 4; // runs that are worked on at a time
const PREFETCH = 2; // runs that lie ready here meanwhile; more save no time, and keep other workers from them
const SILENCE_SECONDS = 45; // an empty event comes every 15 seconds: three missed ones mean that the connection is dead

const SUBSCRIBE = `subscription ($prefetch: Int!, $seconds: Float!) {
  scheduledTaskRuns(taskKeys: ["send-mail"], prefetch: $prefetch, leaseSeconds: $seconds, workerName: "node") {
    leaseId taskRun { id name parameters runCount } } }`;
const SET_STATE = `mutation ($id: ID!, $lease: ID!, $state: StateInput!) {
  setTaskRunState(id: $id, leaseId: $lease, state: $state) { status reason delaySeconds } }`;
const RENEW = `mutation ($leases: [ID!]!, $seconds: Float!) {
  renewTaskRunLeases(leaseIds: $leases, leaseSeconds: $seconds) { leaseId status cancelRequested } }`;
const RELEASE = `mutation ($leases: [ID!]!, $delay: Float!) {
  releaseTaskRuns(leaseIds: $leases, delaySeconds: $delay) { leaseId status } }`;

/** Gives what is to be stored as the result; throws where the run has failed, or when `signal` tells it to stop.
 * A run may come twice when a worker dies in between, so use its id to notice what is done already.
 * Long computations belong in a worker thread: the heartbeat has to go on beside them. */
async function sendMail(run, signal) {
  await sleep((run.parameters?.seconds ?? 1) * 1000, undefined, { signal });
  if (run.runCount < (run.parameters?.failures ?? 0)) throw new Error("the mail server is away");
  return { sent: true };
}

const waiting = []; // deliveries that are not begun
const held = new Map(); // lease -> the AbortController of the work, for those that are begun
const running = new Set(); // their promises
let isDraining = false;

/** Subscribe, and again whenever the connection or the server goes away. */
async function receive(client) {
  for (let failures = 0; !isDraining; failures++) {
    let silence;
    try {
      const variables = { prefetch: PREFETCH, seconds: LEASE_SECONDS };
      const events = client.iterate({ query: SUBSCRIBE, variables });
      const listen = () => (silence = setTimeout(() => client.terminate(), SILENCE_SECONDS * 1000));
      for (listen(); ; listen()) {
        const { value, done } = await events.next();
        clearTimeout(silence);
        if (done) break; // the server is stopping, or we are
        if (value.errors) throw value.errors;
        failures = 0;
        waiting.push(...value.data.scheduledTaskRuns);
        begin();
      }
    } catch (error) {
      if (isRefusal(error)) throw error;
      console.log("Disconnected:", error.message ?? error.reason ?? error);
    }
    clearTimeout(silence);
    if (!isDraining) await backOff(failures);
  }
}

/** Carry out what waits, as far as there are places. */
function begin() {
  while (!isDraining && running.size < AT_ONCE && waiting.length > 0) {
    const { taskRun: run, leaseId: lease } = waiting.shift();
    const work = new AbortController();
    held.set(lease, work);
    const done = carryOut(run, lease, work.signal)
      // Refused (the run was deleted, say), or the lease was lost meanwhile.
      .catch((error) => console.log(run.name, "is given up:", error.message ?? error[0].message))
      .finally(() => {
        held.delete(lease);
        running.delete(done);
        begin();
      });
    running.add(done);
  }
}

/** Work, and report it. Only ACCEPT for RUNNING means that the work may begin. */
async function carryOut(run, lease, signal) {
  const answer = await report(run, lease, { type: "RUNNING" });
  if (answer.status !== "ACCEPT" || !held.has(lease)) {
    // WAIT: no slot is free, or it is too early. REJECT: there is a result already. ABORT: it is somebody else's, or
    // must not run now. Handing it back is right for all: what is not ours any more is not changed by it.
    await ask(RELEASE, { leases: [lease], delay: answer.delaySeconds ?? 30 }, lease);
    return;
  }
  let outcome;
  try {
    outcome = { type: "COMPLETED", data: await sendMail(run, signal) };
  } catch (error) {
    // REJECT as the answer to FAILED means that it will be tried again, by any worker.
    outcome = signal.aborted ? { type: "CANCELLED" } : { type: "FAILED", message: String(error.message) };
  }
  if (held.has(lease)) await report(run, lease, outcome);
  else console.log(run.name, "was lost"); // stop: whatever we reported would be answered ABORT
}

async function report(run, lease, state) {
  // An id for each change: a report whose answer was lost is sent again, and still is made once.
  state = { ...state, details: { transitionId: randomUUID() } };
  const answer = await ask(SET_STATE, { id: run.id, lease, state }, lease);
  console.log(run.name, state.type, answer.status, answer.reason ?? "");
  return answer;
}

/** Renew all that is held, in one call. Runs that are not begun are not renewed: that would acknowledge them. */
async function beat() {
  for (;;) {
    await sleep((LEASE_SECONDS / 3) * 1000);
    if (held.size === 0) continue;
    for (const result of await ask(RENEW, { leases: [...held.keys()], seconds: LEASE_SECONDS })) {
      const work = held.get(result.leaseId);
      if (result.status === "LOST") held.delete(result.leaseId);
      if (result.status === "LOST" || result.cancelRequested) work?.abort();
    }
  }
}

/** The answer to a request, which is sent until there is one, or until `lease` is lost. Over HTTP, so that a report
 * does not depend on the WebSocket that a delivery came by. */
async function ask(query, variables, lease) {
  for (let failures = 0; ; failures++) {
    try {
      const body = JSON.stringify({ query, variables });
      const headers = { "content-type": "application/json", ...SHOWN };
      const response = await fetch(URL, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
      const { data, errors } = await response.json();
      if (errors) throw errors;
      return Object.values(data)[0];
    } catch (error) {
      if (isRefusal(error) || (lease && !held.has(lease))) throw error;
      console.log("No answer:", error.message ?? error[0].message);
    }
    await backOff(failures);
  }
}

/** Whether asking again would not help. */
const isRefusal = (error) => Array.isArray(error) && error.some((each) => !each.extensions?.retryable);

/** Wait longer after each failure in a row, and by chance, so that not all workers come back at one moment. */
const backOff = (failures) =>
  sleep(Math.random() * Math.min(0.5 * 2 ** Math.min(failures, 6), LEASE_SECONDS / 3) * 1000);

// Our own loop reconnects, as it has to begin anew anyway after a server that has stopped in order.
const url = URL.replace("http", "ws");
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams: SHOWN, retryAttempts: 0 });

/** Drain: the end of the subscription gives back what is not begun; what is begun is finished, and renewed meanwhile. */
async function drain() {
  isDraining = true;
  await client.dispose();
  await Promise.all(running);
  process.exit(0);
}
process.once("SIGTERM", drain).once("SIGINT", drain);
beat();
receive(client);
