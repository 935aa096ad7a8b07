/** Starts the workers of language services from files of this origin: the policy of the page forbids blobs. */
export function serveWorkers(urls) {
  globalThis.MonacoEnvironment = {
    getWorker: (_moduleId, label) => new Worker(urls[label] ?? urls.editor, { type: 'module', name: label }),
  };
}
