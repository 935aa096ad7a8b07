// node build.mjs           bundles the page into ../static
// node build.mjs --check   bundles it in memory; fails if ../static differs
//
// The build is reproducible: its output depends only on the sources and the lock file, not on the folder or the date.
// Compression can differ between versions of Node, so the check compares contents, not compressed bytes.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';

import { bundle } from './bundle.mjs';
import { writeLicences } from './licences.mjs';

const WEB = fileURLToPath(new URL('.', import.meta.url));
const STATIC = fileURLToPath(new URL('../static/', import.meta.url));

const built = await build();
if (process.argv.includes('--check')) {
  check(built);
} else {
  write(built);
}

/** Returns all files of ../static as stored: a map from name to bytes. */
async function build() {
  const { files, packages, entries } = await bundle(WEB);
  addHashed(files, entries, 'favicon', 'favicon.svg', readFileSync(join(WEB, 'favicon.svg')));
  addHashed(files, entries, 'licences', 'LICENSES.txt', writeLicences(WEB, packages));

  const manifest = { entries, files: {}, sources: hashSources() };
  const stored = new Map();
  for (const [name, content] of [...files].sort(byName)) {
    const file = name.endsWith('.txt') ? name : `${name}.gz`;
    manifest.files[name] = { file, bytes: content.length, sha256: sha256(content) };
    stored.set(file, name === file ? content : gzip(content));
  }
  stored.set('manifest.json', Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
  return stored;
}

function addHashed(files, entries, entry, name, content) {
  const dot = name.lastIndexOf('.');
  const hashed = `${name.slice(0, dot)}-${sha256(content).slice(0, 8).toUpperCase()}${name.slice(dot)}`;
  files.set(hashed, Buffer.from(content));
  entries[entry] = hashed;
}

/** Compresses reproducibly: the header has no time in Node, and its operating system is set to "unknown" here. */
function gzip(content) {
  const bytes = gzipSync(content, { level: 9 });
  bytes[9] = 255;
  return bytes;
}

/** Returns the hash of each source by name. All files of this folder are sources: a change requires a new build. */
function hashSources() {
  const names = readdirSync(WEB, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(WEB.length).replaceAll('\\', '/'))
    .filter((name) => !name.startsWith('node_modules/') && !name.startsWith('.'));
  return Object.fromEntries(names.sort().map((name) => [name, sha256(readFileSync(join(WEB, name)))]));
}

function write(stored) {
  rmSync(STATIC, { recursive: true, force: true });
  mkdirSync(STATIC);
  let total = 0;
  for (const [name, bytes] of stored) {
    writeFileSync(join(STATIC, name), bytes);
    total += bytes.length;
  }
  console.log(`${stored.size} files, ${(total / 1e6).toFixed(2)} MB in ${basename(STATIC)}/`);
}

function check(stored) {
  const present = new Map(readdirSync(STATIC).map((name) => [name, readFileSync(join(STATIC, name))]));
  const names = [...new Set([...stored.keys(), ...present.keys()])].sort();
  const differing = names.filter((name) => !isSame(name, stored.get(name), present.get(name)));
  for (const name of differing) {
    console.error(`${name}: ${!present.has(name) ? 'is missing' : stored.has(name) ? 'differs' : 'is no longer built'}`);
  }
  if (differing.length > 0) {
    console.error('static/ does not match the sources: run `npm ci && npm run build`.');
    process.exitCode = 1;
  } else {
    console.log(`${stored.size} files match the sources.`);
  }
}

function isSame(name, one, other) {
  const read = name.endsWith('.gz') ? gunzipSync : (bytes) => bytes;
  return one !== undefined && other !== undefined && read(one).equals(read(other));
}

function sha256(content) {
  return createHash('sha256').update(content).digest('hex');
}

function byName([one], [other]) {
  return one < other ? -1 : 1;
}
