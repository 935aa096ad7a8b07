import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Packages without a licence file, and the package by the same authors that has it. */
const SAME_AUTHORS = {
  '@graphiql/plugin-doc-explorer': 'graphiql',
  '@graphiql/plugin-explorer': 'graphiql',
  '@graphiql/plugin-history': 'graphiql',
  'react-compiler-runtime': 'react',
  'react-remove-scroll-bar': 'react-remove-scroll',
};

/** Fonts that GraphiQL's style sheet contains without their licences. */
const FONTS = ['codicon', 'fira-code', 'roboto'];

/** Returns the licences and notices of all bundled packages as one text. Equal licences are included once. */
export function writeLicences(web, packages) {
  const holders = new Map();
  for (const folder of packages) {
    const { name, version, license } = JSON.parse(readFileSync(join(web, folder, 'package.json'), 'utf8'));
    const text = readTexts(web, folder, name);
    holders.set(text, [...(holders.get(text) ?? []), `${name} ${version} (${license})`]);
  }
  for (const font of FONTS) {
    holders.set(readText(join(web, 'licences', `${font}.txt`)), [`the font ${font}`]);
  }
  const parts = [...holders].map(([text, names]) => `${names.join('\n')}\n\n${text}\n`);
  return ['The GraphiQL page of Runyard contains the following software.\n', ...parts].join(`\n${'='.repeat(80)}\n\n`);
}

function readTexts(web, folder, name) {
  const own = licenceFiles(join(web, folder));
  if (own.length > 0) return own.map(readText).join('\n\n');
  const lender = SAME_AUTHORS[name];
  const lent = lender && licenceFiles(join(web, 'node_modules', lender));
  if (!lent || lent.length === 0) throw new Error(`${name} has no licence file: add one to SAME_AUTHORS.`);
  return lent.map(readText).join('\n\n');
}

function licenceFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => /^(licen[cs]e|copying|notice|third-?party-?notices)([.-]|$)/i.test(name))
    .sort()
    .map((name) => join(folder, name));
}

function readText(path) {
  return readFileSync(path, 'utf8').replaceAll('\r\n', '\n').trim();
}
