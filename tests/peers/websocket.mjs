// The client of graphql-ws against a server: tells what happened, one line of JSON each. Every frame that the server sends
// has to be valid by the client's own words.
import { createClient, validateMessage } from 'graphql-ws';
import WebSocket from 'ws';

const [url, create, subscription] = process.argv.slice(2);
const tell = (what, value) => console.log(JSON.stringify([what, value]));

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
tell('delivered', (await next()) === made.data.createTaskRun.taskRun.id);

while (pongs.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
tell('pong', true);

try {
  await first({ query: '{ nothing }' });
} catch (errors) {
  tell('error', errors[0].extensions.code);
}

socket.close(4205, 'again');
made = await make();
tell('delivered after reconnecting', (await next()) === made.data.createTaskRun.taskRun.id);
tell('sockets', opened);

await deliveries.return();
tell('after complete', (await first({ query: '{ __typename }' })).data.__typename);
await client.dispose();
