/**
 * Returns the initial content of GraphiQL as props: the tabs of an earlier visit, or else the default tabs.
 *
 * GraphiQL fills its editors from the last edit, not from the active tab: a tab without edits would appear without its
 * variables. Therefore the texts of the active tab are passed explicitly.
 */
export function readOpening(defaultTabs) {
  const remembersHeaders = localStorage.getItem('graphiql:shouldPersistHeaders') === 'true';
  const active = activeTab(localStorage.getItem('graphiql:tabState')) ?? defaultTabs[0];
  return {
    defaultTabs: defaultTabs.length > 0 ? defaultTabs : undefined,
    initialQuery: active?.query ?? undefined,
    initialVariables: active?.variables ?? undefined,
    initialHeaders: (remembersHeaders && active?.headers) || undefined,
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
