// Apollo Client with its normalised cache.
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';

import { LIST, SET_STATES, runScenario } from './cache.mjs';

await runScenario((uri, fetch) => {
  const client = new ApolloClient({ cache: new InMemoryCache(), link: new HttpLink({ uri, fetch }) });
  return {
    list: async () => (await client.query({ query: gql(LIST) })).data,
    setStates: async (variables) => (await client.mutate({ mutation: gql(SET_STATES), variables })).data,
    readList: () => client.readQuery({ query: gql(LIST) }),
  };
});
