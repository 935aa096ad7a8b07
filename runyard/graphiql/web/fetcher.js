import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { parse } from 'graphql';
import { createClient } from 'graphql-ws';

/**
 * Sends queries and mutations over HTTP, and subscriptions over one WebSocket, which is opened for the first
 * subscription and closed after the last. A browser cannot set headers on a WebSocket: the headers of the editor are
 * sent as connection parameters instead.
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
 * Returns the name of the operation to execute. The editor updates its list of operations half a second after a change
 * or a new tab; before that, the document on the screen decides.
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
    // The server returns the syntax error.
    return undefined;
  }
}

function webSocketUrl(endpoint) {
  const url = new URL(endpoint, window.location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
