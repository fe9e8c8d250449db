/**
 * Unit files as systemd puts them together (systemd.unit(5), systemd.syntax(7)): the first file of that name in the
 * load path, and then its drop-ins by their names. Only what `arca persistence setup` judges is looked at.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../errors.js';

/** What an administrator writes comes first. */
export const LOAD_PATH = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
];

export interface Setting {
  readonly section: string;
  readonly name: string;
  readonly value: string;
}

export interface UnitFile {
  readonly path: string;
  readonly text: string;
}

export interface Unit {
  readonly name: string;
  /** Nothing: there is no unit of that name. */
  readonly fragment: UnitFile | undefined;
  readonly dropIns: readonly UnitFile[];
}

/** `root` is put before each path. */
export async function readUnit(root: string, name: string): Promise<Unit> {
  let fragment: UnitFile | undefined;
  const dropIns = new Map<string, UnitFile>();
  for (const folder of LOAD_PATH) {
    fragment ??= await readUnitFile(root, `${folder}/${name}`);
    for (const file of await filesIn(join(root, `${folder}/${name}.d`))) {
      if (!file.endsWith('.conf') || dropIns.has(file)) continue;
      const dropIn = await readUnitFile(root, `${folder}/${name}.d/${file}`);
      if (dropIn !== undefined) dropIns.set(file, dropIn);
    }
  }
  const byName = [...dropIns].sort(([one], [other]) => (one < other ? -1 : 1));
  return { name, fragment, dropIns: byName.map(([, file]) => file) };
}

async function readUnitFile(root: string, path: string): Promise<UnitFile | undefined> {
  try {
    return { path, text: await readFile(join(root, path), 'utf8') };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

export async function filesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

/** The settings of one file, in their order. A line that ends in a backslash goes on in the next. */
export function parseSettings(text: string): Setting[] {
  const settings: Setting[] = [];
  let section = '';
  for (const line of joinedLines(text)) {
    const heading = /^\[(.+)\]$/.exec(line)?.[1];
    if (heading !== undefined) section = heading;
    const match = /^([A-Za-z0-9-]+)\s*=\s*(.*)$/.exec(line);
    if (match !== null) settings.push({ section, name: match[1] ?? '', value: match[2] ?? '' });
  }
  return settings;
}

function joinedLines(text: string): string[] {
  const lines: string[] = [];
  let begun = '';
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line.startsWith('#') || line.startsWith(';')) continue;
    if (line.endsWith('\\')) begun += `${line.slice(0, -1).trimEnd()} `;
    else {
      lines.push(begun + line);
      begun = '';
    }
  }
  return [...lines, begun];
}

/** Every value that a setting has once all files were read. An empty one takes back those before it. */
export function valuesOf(unit: Unit, section: string, name: string): string[] {
  const values: string[] = [];
  for (const file of unit.fragment === undefined ? [] : [unit.fragment, ...unit.dropIns]) {
    for (const setting of parseSettings(file.text)) {
      if (setting.section !== section || setting.name !== name) continue;
      if (setting.value === '') values.length = 0;
      else values.push(setting.value);
    }
  }
  return values;
}

/** Those of a setting that holds a list of words. */
export function wordsOf(unit: Unit, section: string, name: string): string[] {
  return valuesOf(unit, section, name).flatMap((value) => value.split(/\s+/));
}
