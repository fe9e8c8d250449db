/**
 * Makes systemd start an ovsdb-server that keeps its database on the disk, and ovs-vswitchd after it. What the
 * distribution does right is left alone. What we write carries our mark, and nothing else is changed or removed.
 */
import { lstat, mkdir, readFile, readlink, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../errors.js';
import { run } from '../exec.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { OVSDB_UNIT, systemdRuns, VSWITCHD_UNIT } from './running-units.js';
import { filesIn, readUnit, type Unit, type UnitFile } from './unit-files.js';
import { DROP_IN_NAME, type Installation, MARK, planUnits, type WantedFile } from './unit-plan.js';

export interface SetupOptions extends CallOptions {
  /** The directory that is `/` of the system to be set up. */
  readonly root: string;
  /** Nothing: where it is, if that survives a reboot, and else the distribution's place. */
  readonly databasePath: string | undefined;
}

export type FileChange =
  | { readonly kind: 'write'; readonly path: string; readonly text: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'remove'; readonly path: string }
  /** What `systemctl enable` does; a removal does not take it back. */
  | { readonly kind: 'enable'; readonly unit: string };

export interface SetupPlan {
  readonly changes: readonly FileChange[];
  /** What is right already, what each change is for, and what is left for somebody else to do. */
  readonly notes: readonly string[];
}

const WANTS = '/etc/systemd/system/multi-user.target.wants';
/** The distributions' units that bring both daemons along, the likelier one first. */
const UMBRELLAS = ['openvswitch-switch.service', 'openvswitch.service'];

export async function planSetup({ root, databasePath }: SetupOptions): Promise<SetupPlan> {
  const { files, enable, notes } = planUnits(await readInstallation(root), databasePath);
  const changes: FileChange[] = [];
  for (const file of files) if (!(await isThere(root, file))) changes.push(changeOf(file));
  for (const path of await ours(root)) {
    if (!files.some((file) => file.path === path)) changes.push({ kind: 'remove', path });
  }
  for (const unit of enable) changes.push({ kind: 'enable', unit });
  return { changes, notes };
}

/** Takes away all that earlier setups wrote. */
export async function planRemoval(root: string): Promise<SetupPlan> {
  const paths = await ours(root);
  return {
    changes: paths.map((path) => ({ kind: 'remove', path })),
    notes: paths.length === 0 ? ['there is nothing of an earlier setup'] : [],
  };
}

/** True: systemd has read the units anew. It does by itself at a boot, and does not look into another root. */
export async function applySetup(plan: SetupPlan, { root, ...call }: SetupOptions): Promise<boolean> {
  for (const change of plan.changes) await applyChange(root, change, call);
  if (plan.changes.length === 0 || root !== '/' || !systemdRuns()) return false;
  await run('systemctl', ['daemon-reload'], call);
  return true;
}

async function readInstallation(root: string): Promise<Installation> {
  const enabled: string[] = [];
  for (const folder of await filesIn(join(root, '/etc/systemd/system'))) {
    if (!/\.(wants|requires)$/.test(folder)) continue;
    enabled.push(...(await filesIn(join(root, '/etc/systemd/system', folder))));
  }
  const umbrellas = await Promise.all(UMBRELLAS.map((name) => readUnit(root, name)));
  return {
    ovsdb: withoutOurs(await readUnit(root, OVSDB_UNIT)),
    vswitchd: withoutOurs(await readUnit(root, VSWITCHD_UNIT)),
    umbrella: umbrellas.find(({ fragment }) => fragment !== undefined),
    enabled,
    accounts: new Set([...(await accountsIn(root, '/etc/passwd')), ...(await accountsIn(root, '/etc/group'))]),
  };
}

/** What would be there without us is what is judged: so a second setup comes to the same. */
function withoutOurs({ name, fragment, dropIns }: Unit): Unit {
  const isOurs = ({ text }: UnitFile): boolean => text.startsWith(MARK);
  return {
    name,
    fragment: fragment !== undefined && isOurs(fragment) ? undefined : fragment,
    dropIns: dropIns.filter((file) => !isOurs(file)),
  };
}

async function accountsIn(root: string, path: string): Promise<string[]> {
  const text = await readFile(join(root, path), 'utf8').catch(absent);
  return (text ?? '').split('\n').map((line) => line.split(':', 1)[0] ?? '');
}

function changeOf(file: WantedFile): FileChange {
  return file.kind === 'link'
    ? { kind: 'link', path: file.path, target: file.target }
    : { kind: 'write', path: file.path, text: file.text };
}

async function isThere(root: string, file: WantedFile): Promise<boolean> {
  const path = join(root, file.path);
  if (file.kind === 'link') return (await lstat(path).catch(absent)) !== undefined;
  return (await readFile(path, 'utf8').catch(absent)) === file.text;
}

/** The files that carry our mark: drop-ins and units, and the links that enable units of ours. */
async function ours(root: string): Promise<string[]> {
  const found: string[] = [];
  for (const unit of [OVSDB_UNIT, VSWITCHD_UNIT]) {
    for (const path of [`/etc/systemd/system/${unit}.d/${DROP_IN_NAME}`, `/etc/systemd/system/${unit}`]) {
      const text = await readFile(join(root, path), 'utf8').catch(absent);
      if (!text?.startsWith(MARK)) continue;
      found.push(path);
      const link = `${WANTS}/${unit}`;
      const target = await readlink(join(root, link)).catch(absent);
      if (path.endsWith(unit) && target === path) found.push(link);
    }
  }
  return found;
}

async function applyChange(root: string, change: FileChange, call: CallOptions): Promise<void> {
  if (change.kind === 'enable') {
    await run('systemctl', [`--root=${root}`, 'enable', change.unit], call);
    return;
  }
  const path = join(root, change.path);
  switch (change.kind) {
    case 'write':
      await mkdir(dirname(path), { recursive: true });
      // Whole or not at all: systemd may read it at any moment.
      await writeFile(`${path}.new`, change.text, { mode: 0o644 });
      await rename(`${path}.new`, path);
      return;
    case 'link':
      await mkdir(dirname(path), { recursive: true });
      await symlink(change.target, path);
      return;
    case 'remove':
      await rm(path, { force: true });
      await removeIfEmpty(dirname(path));
  }
}

/** A folder of drop-ins that held only ours. */
async function removeIfEmpty(folder: string): Promise<void> {
  if (!folder.endsWith('.d')) return;
  try {
    await rmdir(folder);
  } catch (error) {
    if (errnoOf(error) !== 'ENOTEMPTY') throw error;
  }
}

function absent(error: unknown): undefined {
  if (['ENOENT', 'ENOTDIR', 'EINVAL'].includes(errnoOf(error) ?? '')) return undefined;
  throw error;
}
