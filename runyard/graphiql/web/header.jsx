import { DropdownMenu, ChevronDownIcon, useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { useEffect, useRef, useState } from 'react';

import { TOKEN_LABEL, onRejectedToken, readToken, storeToken } from './token.js';

/** The bar above GraphiQL. It has the class of GraphiQL's container, because that defines the colours and fonts. */
export function Header({ title, menu }) {
  return (
    <header className="graphiql-container runyard-header">
      <h1>{title}</h1>
      <DocumentMenu menu={menu} />
      <TokenField />
    </header>
  );
}

/** Menu of all documents. A selected document is opened in a new tab, with its example variables. */
function DocumentMenu({ menu }) {
  const { addTab, stop, updateActiveTabValues } = useGraphiQLActions();
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const variableEditor = useGraphiQL((state) => state.variableEditor);

  const open = ({ query, variables }) => {
    stop();
    addTab();
    queryEditor.setValue(query);
    variableEditor.setValue(variables);
    updateActiveTabValues({ query, variables, operationName: nameOf(query) });
  };

  return (
    <DropdownMenu>
      <DropdownMenu.Button type="button" className="runyard-menu-button" disabled={!queryEditor || !variableEditor}>
        Documents
        <ChevronDownIcon aria-hidden="true" />
      </DropdownMenu.Button>
      <DropdownMenu.Content className="runyard-menu" collisionPadding={8}>
        {menu.map(({ title, documents }) => (
          <div key={title} role="group" aria-label={title}>
            <div className="runyard-menu-title">{title}</div>
            {documents.map((document) => (
              <DropdownMenu.Item key={document.query} onSelect={() => open(document)}>
                <span>{nameOf(document.query)}</span>
                <small>{purposeOf(document.query)}</small>
              </DropdownMenu.Item>
            ))}
          </div>
        ))}
      </DropdownMenu.Content>
    </DropdownMenu>
  );
}

/** The field for the API token. When the user leaves it or presses Enter, the documentation is loaded again. */
function TokenField() {
  const { introspect } = useGraphiQLActions();
  const responseEditor = useGraphiQL((state) => state.responseEditor);
  const [isRejected, setIsRejected] = useState(false);
  const used = useRef(readToken());
  useEffect(() => onRejectedToken(() => setIsRejected(true)), []);

  const change = (event) => {
    storeToken(event.target.value);
    setIsRejected(false);
  };
  const apply = () => {
    if (used.current === readToken()) return;
    used.current = readToken();
    responseEditor?.setValue('');
    introspect();
  };

  return (
    <label className="runyard-token">
      <span>{TOKEN_LABEL}</span>
      <input
        aria-label={TOKEN_LABEL}
        type="password"
        autoComplete="off"
        spellCheck={false}
        placeholder={TOKEN_LABEL}
        title="Required if the server requires tokens. Kept until this tab of the browser is closed."
        defaultValue={readToken()}
        aria-invalid={isRejected}
        onChange={change}
        onBlur={apply}
        onKeyDown={(event) => event.key === 'Enter' && apply()}
      />
    </label>
  );
}

/** Returns the name of the only operation of a document. */
function nameOf(query) {
  return /^(?:query|mutation|subscription) (\w+)/m.exec(query)?.[1];
}

/** Returns the first line of a document, a comment that states its purpose. */
function purposeOf(query) {
  return query.split('\n', 1)[0].replace(/^#\s*/, '');
}
