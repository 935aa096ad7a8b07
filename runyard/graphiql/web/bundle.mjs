import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

import * as esbuild from 'esbuild';

const ENTRY_POINTS = {
  page: 'main.jsx',
  'worker-editor': 'monaco-editor/esm/vs/editor/editor.worker.js',
  'worker-json': 'monaco-editor/esm/vs/language/json/json.worker.js',
  'worker-graphql': 'monaco-graphql/esm/graphql.worker.js',
};

/** Omits the style sheets that Monaco imports: GraphiQL's style sheet already contains them, with the icon font. */
const withoutMonacoStyles = {
  name: 'without-monaco-styles',
  setup(build) {
    build.onLoad({ filter: /[\\/]monaco-editor[\\/].*\.css$/ }, () => ({ contents: '', loader: 'empty' }));
  },
};

/** Corrects the check of variables, which reports non-null fields with a default as missing. */
const withOptionalDefaults = {
  name: 'with-optional-defaults',
  setup(build) {
    build.onLoad({ filter: /graphql-language-service[\\/]esm[\\/]utils[\\/]getVariablesJSONSchema\.js$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8');
      const contents = source.replace('if (fieldRequired)', 'if (fieldRequired && field.defaultValue === undefined)');
      return contents === source ? { errors: [{ text: `${path} has changed: correct it again` }] } : { contents };
    });
  },
};

/** GraphiQL imports Prettier by these older names: CommonJS modules, which have no named exports when loaded lazily. */
const PRETTIER_MODULES = {
  'prettier/parser-babel': 'prettier/plugins/babel',
  'prettier/parser-graphql': 'prettier/plugins/graphql',
};

/**
 * Bundles the page and its workers. Prettier and the larger parts of Monaco are separate chunks, loaded when needed.
 *
 * Returns `files` (name to content), `packages` (folders of the bundled npm packages) and `entries` (the files that the
 * page refers to: its script, its style, its workers, and the chunks to preload).
 */
export async function bundle(web) {
  const result = await esbuild.build({
    absWorkingDir: web,
    entryPoints: ENTRY_POINTS,
    outdir: 'static',
    entryNames: '[name]-[hash]',
    chunkNames: 'chunk-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    minify: true,
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"' },
    alias: PRETTIER_MODULES,
    plugins: [withoutMonacoStyles, withOptionalDefaults],
    write: false,
    metafile: true,
    logLevel: 'warning',
  });
  const { outputs } = result.metafile;
  return {
    files: new Map(result.outputFiles.map((file) => [basename(file.path), Buffer.from(file.contents)])),
    packages: packagesIn(outputs),
    entries: entriesIn(outputs),
  };
}

function entriesIn(outputs) {
  const entries = { workers: {} };
  for (const [path, output] of Object.entries(outputs)) {
    const file = basename(path);
    const worker = Object.keys(ENTRY_POINTS).find((name) => name !== 'page' && file.startsWith(`${name}-`));
    if (worker) {
      entries.workers[worker.slice('worker-'.length)] = file;
    } else if (output.entryPoint === ENTRY_POINTS.page) {
      entries.script = file;
      entries.style = basename(output.cssBundle);
      entries.preload = importsOf(outputs, output).sort();
    }
  }
  return entries;
}

/** Returns the chunks that the script of the page needs to start. */
function importsOf(outputs, output, found = new Set()) {
  for (const { path, kind } of output.imports) {
    if (kind === 'import-statement' && !found.has(basename(path))) {
      found.add(basename(path));
      importsOf(outputs, outputs[path], found);
    }
  }
  return [...found];
}

function packagesIn(outputs) {
  const folders = new Set();
  for (const { inputs } of Object.values(outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const match = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path);
      if (match && bytesInOutput > 0) folders.add(match[0]);
    }
  }
  return [...folders].sort();
}
