#!/usr/bin/env node
// Holds the arrows of docs/architecture.md: imports and includes go down only. Prints each that does not; exit code 1.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Folder of src/ (or a module that stands in src/ itself): what it may import, beside its own folder. */
const LEAVES = [
  'arguments',
  'errors',
  'exec',
  'finding',
  'http-listen',
  'latch',
  'line-writer',
  'log',
  'package-root',
  'processes',
  'stream-endpoint',
  'systemd',
  'undo',
  'unix-socket',
  'version',
];
const TYPESCRIPT = {
  cli: ['control', 'doctor', 'persistence', 'relay', 'state', 'sandbox', 'native', ...LEAVES],
  doctor: ['control', 'persistence', 'state', 'relay', 'ovn', 'ovs', 'ovsdb', 'native', ...LEAVES],
  persistence: ['ovs', 'ovsdb', ...LEAVES],
  control: ['relay', 'ovn', 'ovs', 'ovsdb', 'native', 'metrics', ...LEAVES],
  state: ['ovs', 'ovsdb', ...LEAVES],
  relay: ['ovn', 'ovs', 'ovsdb', 'native', 'metrics', ...LEAVES],
  sandbox: LEAVES,
  ovn: ['ovsdb', ...LEAVES],
  ovs: ['ovsdb', ...LEAVES],
  ovsdb: LEAVES,
  metrics: ['native', ...LEAVES],
  native: ['package-root'],
  ...Object.fromEntries(LEAVES.map((leaf) => [leaf, LEAVES])),
};

/** Folder or file of native/: what it may include, beside its own folder. */
const CPP = {
  'addon.cc': ['relay', 'proxy', 'io', 'record'],
  'arca_tap.cc': ['relay', 'io', 'record'],
  proxy: ['io', 'record'],
  relay: ['io', 'record'],
  io: ['record'],
  record: [],
};

/** What only one file may use, and what one folder must not. */
const ONLY_IN = [
  { pattern: /^node:child_process$/, files: /^src\/exec\.ts$/, within: /^src\// },
  { pattern: /arca_native\.node$/, files: /^src\/native\.ts$/, within: /^src\// },
  { pattern: /^napi\.h$/, files: /^native\/addon\.cc$/, within: /^native\// },
  // Pure code makes no system call.
  {
    pattern: /^(sys|net|netinet|linux)\/|^(unistd|fcntl|poll|sched|signal|pthread)\.h$|^thread$/,
    files: /^$/,
    within: /^native\/record\//,
  },
];

const complaints = [];

for (const file of filesBelow('src', /\.ts$/)) {
  const from = partOf(file, 'src');
  for (const target of matchesIn(file, /(?:\bfrom|\bimport|\bimport\(|\brequire\()\s*'([^']+)'/g)) {
    checkOnlyIn(file, target);
    if (!target.startsWith('.') || target.endsWith('.node')) continue;
    const path = relative(root, resolve(dirname(join(root, file)), target));
    if (!path.startsWith('src/')) complaints.push(`${file} imports ${path}, which is not in src/`);
    else check(TYPESCRIPT, file, from, partOf(path, 'src'));
  }
}

for (const file of filesBelow('native', /\.(cc|h)$/)) {
  const from = partOf(file, 'native', 'keep extension');
  for (const target of matchesIn(file, /^#include "([^"]+)"/gm)) check(CPP, file, from, target.split('/')[0]);
  for (const target of matchesIn(file, /^#include [<"]([^>"]+)[>"]/gm)) checkOnlyIn(file, target);
}

for (const complaint of complaints) console.error(complaint);
process.exitCode = complaints.length === 0 ? 0 : 1;

function check(table, file, from, to) {
  if (from === to) return;
  if (table[from] === undefined)
    complaints.push(`${file}: ${from} has no place in the table of scripts/check-imports.mjs`);
  else if (!table[from].includes(to)) complaints.push(`${file}: ${from} must not use ${to}`);
}

function checkOnlyIn(file, target) {
  for (const { pattern, files, within } of ONLY_IN) {
    if (pattern.test(target) && within.test(file) && !files.test(file))
      complaints.push(`${file} must not use ${target}`);
  }
}

/** `src/ovs/attach.ts` is part of `ovs`, `src/errors.ts` is `errors`. */
function partOf(path, top, keepExtension) {
  const part = relative(top, path).split('/')[0];
  return keepExtension ? part : part.replace(/\.[jt]s$/, '');
}

function filesBelow(folder, name) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

function matchesIn(file, pattern) {
  return [...readFileSync(join(root, file), 'utf8').matchAll(pattern)].map((match) => match[1]);
}
