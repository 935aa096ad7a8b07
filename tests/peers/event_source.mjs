// EventSource, as browsers have it: one GET request whose response is a stream of events. Reports two changes of a feed, the
// second after setting a state, and the status of a subscription that delivers task runs.
import { EventSource } from 'eventsource';

import { report } from './report.mjs';

const [url, feed, after, setState, deliveries] = process.argv.slice(2);

const subscribe = (query, variables) => {
  const address = new URL(url);
  address.searchParams.set('query', query);
  address.searchParams.set('variables', JSON.stringify(variables));
  return new EventSource(address);
};
const nextChange = (source) =>
  new Promise((resolve, reject) => {
    source.addEventListener('next', ({ data }) => resolve(JSON.parse(data).data.taskRunStateChanges), { once: true });
    source.addEventListener('error', ({ message }) => reject(new Error(message)), { once: true });
  });

const source = subscribe(feed, { after });
const { state, taskRun } = await nextChange(source);
report('change', state.name);
const next = nextChange(source);
await fetch(url, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ query: setState, variables: { id: taskRun.id, state: { type: 'COMPLETED' } } }),
});
report('change', (await next).state.name);
source.close();

const refused = subscribe(deliveries, { taskKeys: ['peer'] });
const { code } = await new Promise((resolve) => refused.addEventListener('error', resolve));
report('refused', [code, refused.readyState === EventSource.CLOSED]);
