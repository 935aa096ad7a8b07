// The client of graphql-sse against a server, in its mode of distinct connections: tells what happened, one line of JSON each.
import { createClient } from 'graphql-sse';

const [url, create, subscription] = process.argv.slice(2);
const tell = (what, value) => console.log(JSON.stringify([what, value]));
const client = createClient({ url, retryAttempts: 0 });

const all = async (payload) => {
  const results = [];
  for await (const result of client.iterate(payload)) results.push(result);
  return results;
};

tell('query', await all({ query: '{ __typename }' }));
const [{ errors }] = await all({ query: '{ nothing }' });
tell('invalid', errors[0].extensions.code);

const deliveries = client.iterate({ query: subscription, variables: { taskKeys: ['peer'] } });
const coming = deliveries.next();
const [made] = await all({ query: create, variables: { input: { taskKey: 'peer', state: { type: 'SCHEDULED' } } } });
const { value } = await coming;
tell('delivered', value.data.scheduledTaskRuns[0].taskRun.id === made.data.createTaskRun.taskRun.id);
await deliveries.return();

const single = createClient({ url, retryAttempts: 0, singleConnection: true });
try {
  for await (const result of single.iterate({ query: '{ __typename }' })) tell('single', result);
} catch (error) {
  tell('single', error.response.status);
}
