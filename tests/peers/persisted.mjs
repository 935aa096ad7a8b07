// Apollo's automatic persisted queries, sent by Apollo Client and urql: first the hash of a document, then the document
// if the server does not execute the hash. Reports the results of two queries and the requests of each client.
import { createHash } from 'node:crypto';

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { Client, fetchExchange } from '@urql/core';
import { persistedExchange } from '@urql/exchange-persisted';

import { report } from './report.mjs';

const [url, ...documents] = process.argv.slice(2);
const sha256 = (text) => createHash('sha256').update(text).digest('hex');

const apollo = (byGet) => (fetch) => {
  const persisted = new PersistedQueryLink({ sha256, useGETForHashedQueries: byGet });
  const link = ApolloLink.from([persisted, new HttpLink({ uri: url, fetch })]);
  const client = new ApolloClient({ cache: new InMemoryCache(), link });
  return (query) => client.query({ query: gql(query), fetchPolicy: 'network-only' });
};

const urql = (byGet) => (fetch) => {
  const persisted = persistedExchange({ generateHash: async (text) => sha256(text), preferGetForPersistedQueries: byGet });
  const client = new Client({ url, fetch, exchanges: [persisted, fetchExchange], preferGetMethod: false });
  return (query) => client.query(query, {}).toPromise();
};

const contentOf = (resource, { method = 'GET', body }) => {
  const parameters = body ? JSON.parse(body) : Object.fromEntries(new URL(resource).searchParams);
  const extensions = typeof parameters.extensions === 'string' ? JSON.parse(parameters.extensions) : parameters.extensions;
  const parts = [extensions?.persistedQuery && 'hash', parameters.query && 'document'];
  return [method, ...parts.filter(Boolean)].join(' ');
};

const CLIENTS = {
  'apollo by POST': apollo(false),
  'apollo by GET': apollo(true),
  'urql by POST': urql(false),
  'urql by GET': urql('force'),
};
for (const [name, createClient] of Object.entries(CLIENTS)) {
  const requests = [];
  const send = createClient((resource, options) => {
    requests.push(contentOf(resource, options));
    return fetch(resource, options);
  });
  const results = [];
  for (const query of documents) {
    const { data, error } = await send(query).catch((error) => ({ error }));
    results.push(error ? error.message : Object.keys(data));
  }
  report(name, { results, requests });
}
