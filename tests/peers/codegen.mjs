// graphql-codegen with its client preset: generates TypeScript and a manifest of persisted documents for all documents in
// a folder. Reports the names of the generated files and of the operations that have a typed document.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import { preset } from '@graphql-codegen/client-preset';
import { codegen } from '@graphql-codegen/core';
import { parse } from 'graphql';

import { report } from './report.mjs';

const [sdl, folder, output] = process.argv.slice(2);

const documents = readdirSync(folder, { recursive: true })
  .filter((name) => name.endsWith('.graphql'))
  .map((name) => {
    const rawSDL = readFileSync(join(folder, name), 'utf8');
    return { location: join(folder, name), rawSDL, document: parse(rawSDL) };
  });
const sections = await preset.buildGeneratesSection({
  baseOutputDir: `${output}/`,
  schema: parse(readFileSync(sdl, 'utf8')),
  documents,
  config: {},
  plugins: [],
  pluginMap: {},
  presetConfig: { persistedDocuments: { hashAlgorithm: 'sha256' } },
});

mkdirSync(output);
for (const section of sections) {
  const text = await codegen(section);
  writeFileSync(section.filename, text);
  report('file', basename(section.filename));
  if (basename(section.filename) === 'graphql.ts') {
    const operations = text.matchAll(/^export const (\w+)Document = .* as unknown as DocumentNode</gm);
    report('operations', [...operations].map(([, name]) => name));
  }
}
