/**
 * Returns the initial content of GraphiQL as props: the document of the address, or else the tabs of an earlier visit,
 * or else the default tabs.
 *
 * GraphiQL fills its editors from the last edit, not from the active tab: a tab without edits would appear without its
 * variables. Therefore the texts of the active tab are passed explicitly. GraphiQL adds a tab for texts that no stored
 * tab has.
 */
export function readOpening(defaultTabs, linked) {
  const remembersHeaders = localStorage.getItem('graphiql:shouldPersistHeaders') === 'true';
  const active = linked ?? activeTab(localStorage.getItem('graphiql:tabState')) ?? defaultTabs[0];
  const tabs = linked ? [linked, ...defaultTabs] : defaultTabs;
  return {
    defaultTabs: tabs.length > 0 ? tabs : undefined,
    initialQuery: active?.query ?? undefined,
    initialVariables: active?.variables ?? '',
    initialHeaders: linked ? '' : (remembersHeaders && active?.headers) || undefined,
    shouldPersistHeaders: remembersHeaders || undefined,
  };
}

function activeTab(stored) {
  try {
    const { tabs, activeTabIndex } = JSON.parse(stored);
    return tabs[activeTabIndex];
  } catch {
    return undefined;
  }
}

const PARAMETERS = ['query', 'variables', 'operationName'];

/**
 * Takes a document out of the address of the page: `?query=…&variables=…&operationName=…`. Without these parameters,
 * a reload shows the stored tab instead of opening another one. The operation is not executed.
 */
export function takeLinkedDocument() {
  const url = new URL(window.location.href);
  const [query, variables, operationName] = PARAMETERS.map((name) => url.searchParams.get(name));
  if (!query) return undefined;
  for (const name of PARAMETERS) url.searchParams.delete(name);
  window.history.replaceState(window.history.state, '', url);
  return { query, variables: indent(variables ?? ''), operationName };
}

function indent(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
