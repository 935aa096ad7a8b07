// The client of graphql-sse, in its distinct connections mode.
import { createClient } from 'graphql-sse';

import { report } from './report.mjs';

const [url, create, subscription] = process.argv.slice(2);
const client = createClient({ url, retryAttempts: 0 });

const all = async (payload) => {
  const results = [];
  for await (const result of client.iterate(payload)) results.push(result);
  return results;
};

report('query', await all({ query: '{ __typename }' }));
const [{ errors }] = await all({ query: '{ nothing }' });
report('invalid', errors[0].extensions.code);

const deliveries = client.iterate({ query: subscription, variables: { taskKeys: ['peer'] } });
const coming = deliveries.next();
const [made] = await all({ query: create, variables: { input: { taskKey: 'peer', state: { type: 'SCHEDULED' } } } });
const { value } = await coming;
report('delivered', value.data.scheduledTaskRuns[0].taskRun.id === made.data.createTaskRun.taskRun.id);
await deliveries.return();

const single = createClient({ url, retryAttempts: 0, singleConnection: true });
try {
  for await (const result of single.iterate({ query: '{ __typename }' })) report('single', result);
} catch (error) {
  report('single', error.response.status);
}
