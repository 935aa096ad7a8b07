import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { parse } from 'graphql';
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
    const documentAST = parseOrNothing(params.query);
    return fetcher({ ...params, operationName: chooseOperation(documentAST, params) }, { ...options, documentAST });
  };
}

/**
 * The editor notices which operations it holds half a second after a change, a new tab included. Whoever presses the
 * button before that means what is on the screen, so the document is looked at afresh.
 */
function chooseOperation(documentAST, { operationName }) {
  const names = (documentAST?.definitions ?? [])
    .filter((definition) => definition.kind === 'OperationDefinition')
    .map((definition) => definition.name?.value);
  return names.length === 1 ? names[0] : operationName;
}

function parseOrNothing(query) {
  try {
    return parse(query);
  } catch {
    // The server says what is wrong with it.
    return undefined;
  }
}

function webSocketUrl(endpoint) {
  const url = new URL(endpoint, window.location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
