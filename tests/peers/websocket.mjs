// The client of graphql-ws. Every frame that the server sends must be valid for the client's own check.
import { createClient, validateMessage } from 'graphql-ws';
import WebSocket from 'ws';

import { report } from './report.mjs';

const [url, create, subscription] = process.argv.slice(2);

let opened = 0;
class Watched extends WebSocket {
  constructor(...values) {
    super(...values);
    opened += 1;
    this.on('message', (data) => validateMessage(JSON.parse(data)));
  }
}

let socket;
const pongs = [];
const client = createClient({
  url,
  webSocketImpl: Watched,
  lazy: false,
  keepAlive: 50,
  retryWait: async () => {},
  shouldRetry: () => true,
  on: { opened: (its) => { socket = its; }, pong: (received) => pongs.push(received) },
  onNonLazyError: (error) => { throw error; },
});

const first = async (payload) => {
  const results = client.iterate(payload);
  const { value } = await results.next();
  await results.return();
  return value;
};
const make = () => first({ query: create, variables: { input: { taskKey: 'peer', state: { type: 'SCHEDULED' } } } });

const deliveries = client.iterate({ query: subscription, variables: { taskKeys: ['peer'], autoAcknowledge: true } });
const next = async () => {
  for (;;) {
    const { value } = await deliveries.next();
    if (value.data.scheduledTaskRuns.length) return value.data.scheduledTaskRuns[0].taskRun.id;
  }
};

let made = await make();
report('delivered', (await next()) === made.data.createTaskRun.taskRun.id);

while (pongs.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
report('pong', true);

try {
  await first({ query: '{ nothing }' });
} catch (errors) {
  report('error', errors[0].extensions.code);
}

socket.close(4205, 'again');
made = await make();
report('delivered after reconnecting', (await next()) === made.data.createTaskRun.taskRun.id);
report('sockets', opened);

await deliveries.return();
report('after complete', (await first({ query: '{ __typename }' })).data.__typename);
await client.dispose();
