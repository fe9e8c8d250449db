/** What suites and contenders get: where things are, what may be started, and the signal that ends it all. */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { Lab } from './lab.js';
import type { Processes } from './processes.js';

export interface Programs {
  readonly naiveRelay: string;
  readonly plainPeer: string;
  readonly pingpong: string;
  readonly idlePeers: string;
  readonly micro: string;
  readonly arcaTap: string;
  readonly addon: string;
  /** arca-relay's script, for node. */
  readonly arcaRelay: string;
  readonly arca: string;
  /** arca-control's script, for node. */
  readonly arcaControl: string;
}

export interface Context {
  readonly root: string;
  readonly programs: Programs;
  readonly lab: Lab;
  readonly processes: Processes;
  readonly signal: AbortSignal;
  /** How long one measure lasts, seconds; a whole number: iperf3 takes no other. */
  readonly seconds: number;
  readonly quick: boolean;
  /** Processes of ours that are not our descendants: daemons. */
  readonly adopted: Set<number>;
  /** Records a command for the results; the first time counts for each key. */
  note(key: string, commands: readonly string[]): void;
}

export function programsOf(root: string): Programs {
  const bench = (name: string): string => join(root, 'build/bench', name);
  return {
    naiveRelay: bench('naive_relay'),
    plainPeer: bench('plain_peer'),
    pingpong: bench('pingpong'),
    idlePeers: bench('idle_peers'),
    micro: bench('micro'),
    arcaTap: join(root, 'build/Release/arca-tap'),
    addon: join(root, 'build/Release/arca_native.node'),
    arcaRelay: join(root, 'dist/cli/arca-relay.js'),
    arca: join(root, 'dist/cli/arca.js'),
    arcaControl: join(root, 'dist/cli/arca-control.js'),
  };
}

/** Whether a program can be run: a path, or a name that is looked for in PATH. */
export async function canRun(program: string): Promise<boolean> {
  const paths = program.includes('/')
    ? [program]
    : (process.env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, program));
  for (const path of paths) {
    try {
      await access(path, constants.X_OK);
      return true;
    } catch {
      // The next one.
    }
  }
  return false;
}
