// The scenario of the normalised caches: list a run, set two of its states in one mutation, and read the list from the
// cache. Reports what the client returned, how many requests it sent, and which warnings it logged.
import { report } from './report.mjs';

export const LIST = `query ListPeerRuns {
  taskRuns(first: 1) {
    nodes { id stateType stateName }
  }
}`;

export const SET_STATES = `mutation SetPeerStates($inputs: [TaskRunStateChangeInput!]!) {
  setTaskRunStates(inputs: $inputs) {
    results {
      taskRunId
      error { code message }
      result { status state { id name } taskRun { id stateType stateName } }
    }
  }
}`;

/** `createClient(url, fetch)` returns the functions `list`, `setStates` and `readList`, which return data. */
export async function runScenario(createClient) {
  const [url] = process.argv.slice(2);
  const warnings = [];
  for (const level of ['warn', 'error']) console[level] = (...values) => warnings.push(values.map(String).join(' '));
  let requests = 0;
  const countingFetch = (...values) => {
    requests += 1;
    return fetch(...values);
  };
  const { list, setStates, readList } = createClient(url, countingFetch);

  const [run] = (await list()).taskRuns.nodes;
  report('listed', run.stateName);
  const inputs = ['RUNNING', 'COMPLETED'].map((type) => ({ taskRunId: run.id, state: { type } }));
  for (const { taskRunId, error, result } of (await setStates({ inputs })).setTaskRunStates.results) {
    report('result', [taskRunId === run.id, error, result.state.name, result.taskRun.stateName]);
  }
  const [cached] = (await readList()).taskRuns.nodes;
  report('cached', [cached.id === run.id, cached.stateType, cached.stateName]);
  report('requests', requests);
  report('warnings', warnings);
}
