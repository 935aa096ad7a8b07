import { explorerPlugin } from '@graphiql/plugin-explorer';
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql';
import { createRoot } from 'react-dom/client';

import 'graphiql/style.css';
import '@graphiql/plugin-explorer/style.css';
import './page.css';

import { createFetcher } from './fetcher.js';
import { readOpening } from './opening.js';
import { serveWorkers } from './workers.js';

const config = JSON.parse(document.getElementById('runyard-config').textContent);
const plugins = [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false })];

serveWorkers(config.workers);

createRoot(document.getElementById('graphiql')).render(
  <GraphiQL
    fetcher={createFetcher(config.endpoint)}
    plugins={plugins}
    inputValueDeprecation
    defaultEditorToolsVisibility="variables"
    {...readOpening(config.tabs)}
  >
    <GraphiQL.Logo>{config.title}</GraphiQL.Logo>
  </GraphiQL>,
);
