import { parse } from 'graphql';
import { createClient } from 'graphql-ws';

import { TOKEN_LABEL, addToken, reportRejectedToken } from './token.js';

const CLOSE_FORBIDDEN = 4403;

/**
 * Sends queries and mutations over HTTP, and subscriptions over one WebSocket, which is opened for the first
 * subscription and closed after the last. A browser cannot set headers on a WebSocket: they are sent as connection
 * parameters instead.
 *
 * Failures are returned as GraphQL errors, because GraphiQL shows exceptions with their stack traces.
 */
export function createFetcher(endpoint, subscriptionEndpoint) {
  let connectionParams = {};
  const client = createClient({
    url: webSocketUrl(subscriptionEndpoint),
    lazy: true,
    retryAttempts: 0,
    connectionParams: () => connectionParams,
  });

  return (params, options) => {
    const headers = addToken(options?.headers ?? {});
    const operation = chooseOperation(params);
    const request = { ...params, operationName: operation?.name?.value ?? params.operationName };
    if (operation?.operation !== 'subscription') return post(endpoint, request, headers);
    connectionParams = headers;
    return subscribe(client, request);
  };
}

/**
 * Returns the operation to execute; undefined when the server must decide, for instance about a syntax error. The
 * editor updates its list of operations after a delay; until then, the document on the screen decides.
 */
function chooseOperation({ query, operationName }) {
  const operations = parseDocument(query).filter(({ kind }) => kind === 'OperationDefinition');
  return operations.length === 1 ? operations[0] : operations.find(({ name }) => name?.value === operationName);
}

function parseDocument(query) {
  try {
    return parse(query).definitions;
  } catch {
    return [];
  }
}

async function post(endpoint, request, headers) {
  let response;
  try {
    response = await fetch(endpoint, {
      method: 'POST',
      headers: withDefaults(headers),
      body: JSON.stringify(request),
    });
  } catch (error) {
    return failure(`The request failed: ${error.message}. Check that the server is running and the headers are valid.`);
  }
  if (response.status === 401) return tokenFailure({ status: 401 });
  try {
    return await response.json();
  } catch {
    return failure(`The response is not JSON. Its status is ${response.status}.`);
  }
}

function withDefaults(headers) {
  const complete = new Headers({
    'Content-Type': 'application/json',
    Accept: 'application/graphql-response+json, application/json;q=0.9',
  });
  for (const [name, value] of Object.entries(headers)) complete.set(name, value);
  return complete;
}

/** Returns the events of a subscription as an observable, the form in which GraphiQL can end it at any time. */
function subscribe(client, request) {
  return {
    subscribe(observer) {
      const unsubscribe = client.subscribe(request, {
        next: (result) => observer.next(result),
        error: (error) => {
          observer.next(socketFailure(error));
          observer.complete();
        },
        complete: () => observer.complete(),
      });
      return { unsubscribe };
    },
  };
}

/** Returns what ended a subscription: errors of the operation, a close event, an event without text, or an exception. */
function socketFailure(error) {
  if (Array.isArray(error)) return { errors: error };
  const { code, reason, message } = error;
  if (code === CLOSE_FORBIDDEN) return tokenFailure({ closeCode: code, reason });
  const explanation = reason || message || 'the connection failed or was lost';
  return failure(`The subscription ended: ${explanation}. Execute it again to reconnect.`, code && { closeCode: code });
}

function tokenFailure(extensions) {
  reportRejectedToken();
  const message = `A valid API token is required. Enter it in the field “${TOKEN_LABEL}” at the top of this page.`;
  return failure(message, { code: 'UNAUTHENTICATED', ...extensions });
}

function failure(message, extensions) {
  return { errors: [{ message, extensions }] };
}

function webSocketUrl(endpoint) {
  const url = new URL(endpoint);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
