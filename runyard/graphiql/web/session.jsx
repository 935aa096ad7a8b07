import { useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { useEffect, useSyncExternalStore } from 'react';

const NARROW = window.matchMedia('(max-width: 600px)');

/** Adjustments of GraphiQL's tabs and editors. Renders nothing. */
export function Session({ operationName }) {
  useActiveTabInView();
  useTabsWithoutTouchDrag();
  useWrappedLines();
  useSelectedOperation(operationName);
  return null;
}

/** Scrolls the list of tabs to the active one: to a new tab at its end, and when the list becomes narrower. */
function useActiveTabInView() {
  const activeTabIndex = useGraphiQL((state) => state.activeTabIndex);
  const tabCount = useGraphiQL((state) => state.tabs.length);
  useEffect(() => {
    const list = document.querySelector('.graphiql-tabs');
    const observer = new ResizeObserver(() => {
      list.querySelector('.graphiql-tab-active')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    });
    observer.observe(list);
    return () => observer.disconnect();
  }, [activeTabIndex, tabCount]);
}

/** Keeps a touch from moving a tab: it scrolls the list instead. The style sheet allows the scrolling. */
function useTabsWithoutTouchDrag() {
  useEffect(() => {
    const list = document.querySelector('.graphiql-tabs');
    const stop = (event) => event.pointerType === 'touch' && event.stopPropagation();
    list.addEventListener('pointerdown', stop, { capture: true });
    return () => list.removeEventListener('pointerdown', stop, { capture: true });
  }, []);
}

/** Wraps long lines in the editors: comments are instructions. In narrow windows, the text is smaller, too. */
function useWrappedLines() {
  const isNarrow = useSyncExternalStore(listenToWidth, () => NARROW.matches);
  const editors = useGraphiQL(({ queryEditor, variableEditor, headerEditor, responseEditor }) => ({
    queryEditor,
    variableEditor,
    headerEditor,
    responseEditor,
  }));
  useEffect(() => {
    for (const editor of Object.values(editors)) {
      editor?.updateOptions({ wordWrap: 'on', fontSize: isNarrow ? 13 : 15, folding: !isNarrow });
    }
  }, [editors, isNarrow]);
}

function listenToWidth(listener) {
  NARROW.addEventListener('change', listener);
  return () => NARROW.removeEventListener('change', listener);
}

/** Selects the operation that the address of the page names, in a document with several, once they are known. */
function useSelectedOperation(operationName) {
  const { setOperationName } = useGraphiQLActions();
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const operation = useGraphiQL((state) => state.operations?.find(({ name }) => name?.value === operationName));
  const isKnown = operation !== undefined;
  useEffect(() => {
    if (!operationName || !isKnown) return;
    setOperationName(operationName);
    // Ctrl+Enter executes the operation at the cursor.
    queryEditor.setPosition(queryEditor.getModel().getPositionAt(operation.loc.start));
  }, [operationName, isKnown]);
}
