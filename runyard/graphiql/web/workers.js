/** Language services run in workers, from files of this origin: the page's policy allows no blob and no inline script. */
export function serveWorkers(urls) {
  globalThis.MonacoEnvironment = {
    getWorker: (_moduleId, label) => new Worker(urls[label] ?? urls.editor, { type: 'module', name: label }),
  };
}
