/** Reads the configuration in the page. Its addresses are relative to that of the page, which can be below a prefix. */
export function readConfig() {
  const config = JSON.parse(document.getElementById('runyard-config').textContent);
  const workers = Object.entries(config.workers).map(([label, address]) => [label, resolve(address)]);
  return {
    ...config,
    endpoint: resolve(config.endpoint),
    subscriptionEndpoint: resolve(config.subscriptionEndpoint),
    workers: Object.fromEntries(workers),
  };
}

function resolve(address) {
  return new URL(address, window.location.href).href;
}
