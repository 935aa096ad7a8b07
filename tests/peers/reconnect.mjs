// A client that subscribes with its own rules for reconnecting. Reports each event until it is killed.
import { ApolloClient, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import * as sse from 'graphql-sse';
import * as ws from 'graphql-ws';
import WebSocket from 'ws';

import { report } from './report.mjs';

const [kind, url, query] = process.argv.slice(2);

/** Wait until the server responds: by default, graphql-ws does not try again when it cannot open a WebSocket. */
const untilReady = async () => {
  for (;;) {
    const response = await fetch(new URL('/readyz', url)).catch(() => null);
    if (response?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
const websocket = () =>
  ws.createClient({
    url: url.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    retryWait: untilReady,
    on: { closed: ({ code }) => report('closed', code) },
  });

const sink = {
  next: ({ data }) => report('event', data.taskRunStateChanges.taskRun.name),
  error: (error) => report('error', String(error)),
  complete: () => report('complete', null),
};
if (kind === 'graphql-ws') websocket().subscribe({ query }, sink);
if (kind === 'graphql-sse') sse.createClient({ url }).subscribe({ query }, sink);
if (kind === 'apollo') {
  const client = new ApolloClient({ cache: new InMemoryCache(), link: new GraphQLWsLink(websocket()) });
  client.subscribe({ query: gql(query) }).subscribe(sink);
}
