/** Where a sandbox lives, and the claim on that place: the run directory, with our mark in it, and the namespace. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ArcaError, errnoOf } from '../errors.js';
import { type SandboxLayout, sandboxEnvironment, sandboxLayout } from './layout.js';
import { runTool, type ToolOptions } from './tool.js';

export type Datapath = 'netdev' | 'system';

export interface Place {
  readonly layout: SandboxLayout;
  readonly netns: string;
  readonly datapath: Datapath;
  /** What OVS's and OVN's tools need to find the sandbox, without the rest of the environment. */
  readonly env: Readonly<Record<string, string>>;
}

export function describePlace(runDir: string, netns: string, datapath: Datapath): Place {
  const layout = sandboxLayout(runDir);
  return { layout, netns, datapath, env: sandboxEnvironment(layout, netns) };
}

/** Takes the run directory for us. Two starts at the same moment: one of them gets the error. */
export async function claimRunDirectory({ layout, netns, datapath }: Place): Promise<void> {
  const { runDir, stateFile } = layout;
  await mkdir(dirname(runDir), { recursive: true });
  try {
    await mkdir(runDir, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    if ((await readdir(runDir)).length > 0) {
      throw new ArcaError(
        'sandbox-failed',
        existsSync(stateFile)
          ? `${runDir} holds a sandbox already, or the rest of one; \`arca sandbox down --run-dir ${runDir}\` removes it`
          : `${runDir} is not empty, and what is in it is not ours; choose another --run-dir`,
      );
    }
  }
  await writeFile(stateFile, `${JSON.stringify({ netns, datapath })}\n`, { flag: 'wx', mode: 0o600 });
}

/** The place of the sandbox that was started in that directory; undefined if there is none. */
export async function findPlace(runDir: string): Promise<Place | undefined> {
  const { stateFile } = sandboxLayout(runDir);
  let text: string;
  try {
    text = await readFile(stateFile, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
  const state = parseState(text);
  if (state === undefined) {
    throw new ArcaError('sandbox-failed', `${stateFile} is damaged; look at ${runDir} and remove it by hand`);
  }
  return describePlace(runDir, state.netns, state.datapath);
}

function parseState(text: string): { netns: string; datapath: Datapath } | undefined {
  try {
    const { netns, datapath } = JSON.parse(text) as Record<string, unknown>;
    if (typeof netns !== 'string' || netns === '') return undefined;
    return datapath === 'netdev' || datapath === 'system' ? { netns, datapath } : undefined;
  } catch {
    return undefined;
  }
}

/** Only for a directory that carries our mark. The mark goes last, so that a removal that was cut short can be repeated. */
export async function removeRunDirectory({ runDir, stateFile }: SandboxLayout): Promise<void> {
  if (!existsSync(stateFile)) return;
  for (const entry of await readdir(runDir, { withFileTypes: true })) {
    const path = `${runDir}/${entry.name}`;
    if (path !== stateFile) await rm(path, { recursive: true, force: true });
  }
  await rm(runDir, { recursive: true, force: true });
}

export async function addNamespace(netns: string, options: ToolOptions): Promise<void> {
  await runTool('ip', ['netns', 'add', netns], options);
  await runTool('ip', ['-n', netns, 'link', 'set', 'lo', 'up'], options);
}

export function namespaceExists(netns: string): boolean {
  return existsSync(`/run/netns/${netns}`);
}

export async function removeNamespace(netns: string, options: ToolOptions): Promise<void> {
  if (namespaceExists(netns)) await runTool('ip', ['netns', 'delete', netns], options);
}

/** Command and arguments that run a program inside the namespace. */
export function inNamespace(netns: string, command: string, args: readonly string[]): [string, string[]] {
  return ['ip', ['netns', 'exec', netns, command, ...args]];
}
