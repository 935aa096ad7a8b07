/**
 * What GraphiQL shows first, as props: the tabs of an earlier visit, else the page's own.
 *
 * GraphiQL fills its editors from the last edit, not from the active tab. A tab that nobody has typed in would come up
 * without its variables, so the active tab's texts are named here.
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
