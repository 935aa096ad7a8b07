import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { createClient } from 'graphql-ws';

/**
 * Queries and mutations go over HTTP, subscriptions over one WebSocket that is opened when the first one starts and
 * closed after the last. A browser cannot set headers on a WebSocket, so what the headers editor holds travels as
 * connection parameters instead.
 */
export function createFetcher(endpoint) {
  let headers = {};
  const wsClient = createClient({
    url: webSocketUrl(endpoint),
    lazy: true,
    retryAttempts: 0,
    connectionParams: () => headers,
  });
  const fetcher = createGraphiQLFetcher({ url: endpoint, wsClient, enableIncrementalDelivery: false });

  return (params, options) => {
    headers = options?.headers ?? {};
    return fetcher(params, options);
  };
}

function webSocketUrl(endpoint) {
  const url = new URL(endpoint, window.location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
