// A proxy that serves a server below a path prefix, as nginx with `location /runyard/ { proxy_pass http://server/; }`, and
// clients behind it: a browser that loads the GraphiQL page, and graphql-ws. Reports their results.
import { createServer, request } from 'node:http';

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

import { report } from './report.mjs';

const PREFIX = '/runyard/';

const [server, create, subscription] = process.argv.slice(2);

const forward = ({ method, headers, url }) => request(server, { method, headers, path: url.slice(PREFIX.length - 1) });
const proxy = createServer((incoming, outgoing) => {
  if (!incoming.url.startsWith(PREFIX)) {
    outgoing.writeHead(404).end();
    return;
  }
  const onward = forward(incoming).on('response', (response) => {
    outgoing.writeHead(response.statusCode, response.headers);
    response.pipe(outgoing);
  });
  incoming.pipe(onward);
});
proxy.on('upgrade', (incoming, socket) => {
  const onward = forward(incoming).on('upgrade', ({ rawHeaders }, upstream, head) => {
    const headers = rawHeaders.map((text, index) => text + (index % 2 ? '\r\n' : ': ')).join('');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n`);
    socket.write(head);
    upstream.pipe(socket).pipe(upstream);
  });
  onward.on('response', ({ statusCode }) => socket.end(`HTTP/1.1 ${statusCode} Refused\r\n\r\n`));
  onward.end();
});
await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${proxy.address().port}${PREFIX}`;

const missing = [];
let endpoint;
const load = async (address) => {
  const response = await fetch(address);
  const text = await response.text();
  if (!response.ok) missing.push(new URL(address).pathname);
  return text;
};
const loadPage = async (path) => {
  const response = await fetch(base + path, { headers: { Accept: 'text/html' } });
  const page = await response.text();
  if (!response.ok) {
    missing.push(new URL(response.url).pathname);
    return;
  }
  const resolve = (address) => new URL(address, response.url).href;
  const config = JSON.parse(page.match(/<script type="application\/json" id="runyard-config">(.*?)<\/script>/s)[1]);
  const links = [...page.matchAll(/ (?:href|src)="([^"]+)"/g)].map(([, address]) => resolve(address));
  const assets = new Set([...links, ...Object.values(config.workers).map(resolve)]);
  for (const asset of assets) {
    const text = await load(asset);
    if (!asset.endsWith('.js')) continue;
    // Modules import each other by addresses relative to their own.
    for (const [, address] of text.matchAll(/["'](\.\/[\w-]+\.js)["']/g)) assets.add(new URL(address, asset).href);
  }
  report('page', [path, assets.size > 10]);
  endpoint = resolve(config.endpoint);
};
for (const path of ['', 'graphql', 'graphql/']) await loadPage(path);
report('missing', missing);

const post = async (address, query, variables) => {
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch(address, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  return response.ok ? (await response.json()).data : response.status;
};
report('endpoint of the page', endpoint && (await post(endpoint, '{ __typename }')));

const url = `${base}graphql`;
const client = createClient({ url: url.replace('http', 'ws'), webSocketImpl: WebSocket, retryAttempts: 0 });
const deliveries = client.iterate({ query: subscription, variables: { taskKeys: ['peer'] } });
const next = deliveries.next();
const { createTaskRun } = await post(url, create, { input: { taskKey: 'peer', state: { type: 'SCHEDULED' } } });
const [delivery] = (await next).value.data.scheduledTaskRuns;
report('delivered', delivery.taskRun.id === createTaskRun.taskRun.id);

await deliveries.return();
await client.dispose();
proxy.close();
proxy.closeAllConnections();
