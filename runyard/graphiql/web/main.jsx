import { DocExplorerStore, DOC_EXPLORER_PLUGIN } from '@graphiql/plugin-doc-explorer';
import { explorerPlugin } from '@graphiql/plugin-explorer';
import { HISTORY_PLUGIN, HistoryStore } from '@graphiql/plugin-history';
import { GraphiQLProvider } from '@graphiql/react';
import { GraphiQL, GraphiQLInterface } from 'graphiql';
import { createRoot } from 'react-dom/client';

import 'graphiql/style.css';
import '@graphiql/plugin-explorer/style.css';
import './page.css';

import { readConfig } from './config.js';
import { createFetcher } from './fetcher.js';
import { Header } from './header.jsx';
import { readOpening, takeLinkedDocument } from './opening.js';
import { SCALAR_SCHEMAS } from './scalars.js';
import { Session } from './session.jsx';
import { serveWorkers } from './workers.js';

const config = readConfig();
const linked = takeLinkedDocument();

serveWorkers(config.workers);

createRoot(document.getElementById('graphiql')).render(
  <GraphiQLProvider
    fetcher={createFetcher(config.endpoint, config.subscriptionEndpoint)}
    plugins={[DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN, explorerPlugin({ showAttribution: false })]}
    referencePlugin={DOC_EXPLORER_PLUGIN}
    customScalarSchemas={SCALAR_SCHEMAS}
    inputValueDeprecation
    {...readOpening(config.tabs, linked)}
  >
    <HistoryStore>
      <DocExplorerStore>
        <Header title={config.title} menu={config.menu} />
        <GraphiQLInterface defaultEditorToolsVisibility="variables" showPersistHeadersSettings>
          <GraphiQL.Logo>{null}</GraphiQL.Logo>
        </GraphiQLInterface>
        <Session operationName={linked?.operationName} />
      </DocExplorerStore>
    </HistoryStore>
  </GraphiQLProvider>,
);
