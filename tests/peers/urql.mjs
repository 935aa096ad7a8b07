// urql with the normalised cache of graphcache.
import { Client, fetchExchange } from '@urql/core';
import { cacheExchange } from '@urql/exchange-graphcache';

import { LIST, SET_STATES, runScenario } from './cache.mjs';

const dataOf = ({ data, error }) => {
  if (error) throw error;
  return data;
};

await runScenario((url, fetch) => {
  const exchanges = [cacheExchange(), fetchExchange];
  const client = new Client({ url, fetch, exchanges, preferGetMethod: false });
  return {
    list: async () => dataOf(await client.query(LIST, {})),
    setStates: async (variables) => dataOf(await client.mutation(SET_STATES, variables)),
    readList: async () => dataOf(await client.query(LIST, {}, { requestPolicy: 'cache-only' })),
  };
});
