// Relay with a network layer of one function. The requests are those that relay-compiler 21.0.1 generates, written with
// less repetition: the compiler contains 120 MB of binaries.
import relay from 'relay-runtime';

import { LIST, SET_STATES, runScenario } from './cache.mjs';

const { Environment, Network, RecordSource, Store, commitMutation, createOperationDescriptor, fetchQuery } = relay;

const scalar = (name) => ({ alias: null, args: null, kind: 'ScalarField', name, storageKey: null });
const linked = (name, concreteType, selections, { args = null, plural = false, storageKey = null } = {}) => ({
  alias: null, args, concreteType, kind: 'LinkedField', name, plural, selections, storageKey,
});
const request = (operationKind, type, name, text, selections, argumentDefinitions = []) => ({
  fragment: { argumentDefinitions, kind: 'Fragment', metadata: null, name, selections, type, abstractKey: null },
  kind: 'Request',
  operation: { argumentDefinitions, kind: 'Operation', name, selections },
  params: { cacheID: name, id: null, metadata: {}, name, operationKind, text },
});

const RUN = [scalar('id'), scalar('stateType'), scalar('stateName')];
const LIST_REQUEST = request('query', 'Query', 'ListPeerRuns', LIST, [
  linked('taskRuns', 'TaskRunConnection', [linked('nodes', 'TaskRun', RUN, { plural: true })], {
    args: [{ kind: 'Literal', name: 'first', value: 1 }],
    storageKey: 'taskRuns(first:1)',
  }),
]);
const RESULT = [
  scalar('taskRunId'),
  linked('error', 'MutationError', [scalar('code'), scalar('message')]),
  linked('result', 'TaskRunOrchestrationResult', [
    scalar('status'),
    linked('state', 'State', [scalar('id'), scalar('name')]),
    linked('taskRun', 'TaskRun', RUN),
  ]),
];
const SET_STATES_REQUEST = request(
  'mutation',
  'Mutation',
  'SetPeerStates',
  SET_STATES,
  [
    linked(
      'setTaskRunStates',
      'TaskRunStatesPayload',
      [linked('results', 'TaskRunStateChangeResult', RESULT, { plural: true })],
      { args: [{ kind: 'Variable', name: 'inputs', variableName: 'inputs' }] },
    ),
  ],
  [{ defaultValue: null, kind: 'LocalArgument', name: 'inputs' }],
);

await runScenario((url, fetch) => {
  const network = Network.create(async ({ text }, variables) => {
    const headers = { 'Content-Type': 'application/json', Accept: 'application/graphql-response+json' };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query: text, variables }) });
    return response.json();
  });
  const environment = new Environment({ network, store: new Store(new RecordSource()) });
  const list = createOperationDescriptor(LIST_REQUEST, {});
  // Records that no operation retains are collected as garbage.
  environment.retain(list);
  return {
    list: () => fetchQuery(environment, LIST_REQUEST, {}).toPromise(),
    setStates: (variables) =>
      new Promise((onCompleted, onError) => {
        commitMutation(environment, { mutation: SET_STATES_REQUEST, variables, onCompleted, onError });
      }),
    readList: () => environment.lookup(list.fragment).data,
  };
});
