/**
 * The proof: something is written through the server, and read back from the file without it. The key is one that
 * nobody looks at, on the row that is always there, and it is removed again; one that a killed check left goes with the
 * next.
 */
import { existsSync } from 'node:fs';
import { CommandError, run } from '../exec.js';
import { OVS_DATABASE } from '../ovs/port-commands.js';
import type { Operation, OvsdbClient } from '../ovsdb/client.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { map, set, textMap } from '../ovsdb/values.js';

export const PROBE_KEY = 'arca-persistence-probe-';

export type ProbeResult =
  | { readonly isInFile: boolean; readonly text: string }
  /** The file could not be read; the text says why. */
  | { readonly isInFile: undefined; readonly text: string };

export interface Probe {
  /** Looks for it in a file; `name` is what the file is called in the result. */
  isIn(path: string, name: string, call: CallOptions): Promise<ProbeResult>;
  remove(call: CallOptions): Promise<void>;
}

const SELECT: Operation = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['external_ids'] };

export async function writeProbe(client: OvsdbClient, value: string, call: CallOptions): Promise<Probe> {
  const key = `${PROBE_KEY}${process.pid}`;
  const [root] = await client.transact(OVS_DATABASE, [SELECT], call);
  const left = Object.keys(textMap(root?.rows?.[0]?.['external_ids'])).filter(isLeft);
  await client.transact(
    OVS_DATABASE,
    [
      mutate('delete', set([...left, key])),
      mutate('insert', map({ [key]: value })),
      // The answer comes when the file is on the disk, not only with the kernel.
      { op: 'commit', durable: true },
    ],
    call,
  );
  return {
    isIn: (path, name, look) => lookInFile({ path, name, key, value }, look),
    async remove(end) {
      await client.transact(OVS_DATABASE, [mutate('delete', set([key]))], end);
    },
  };
}

function mutate(mutator: 'insert' | 'delete', value: ReturnType<typeof map>): Operation {
  return { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['external_ids', mutator, value]] };
}

/** Of a check that is not at work any more. */
function isLeft(key: string): boolean {
  return key.startsWith(PROBE_KEY) && !existsSync(`/proc/${key.slice(PROBE_KEY.length)}`);
}

/** `ovsdb-tool query` reads a file without its lock, so it does so while the server runs. */
async function lookInFile(
  { path, name, key, value }: Readonly<Record<'path' | 'name' | 'key' | 'value', string>>,
  call: CallOptions,
): Promise<ProbeResult> {
  try {
    const { stdout } = await run('ovsdb-tool', ['query', path, JSON.stringify([OVS_DATABASE, SELECT])], call);
    const [answer] = JSON.parse(stdout) as { readonly rows?: readonly Readonly<Record<string, unknown>>[] }[];
    const isInFile = textMap(answer?.rows?.[0]?.['external_ids'])[key] === value;
    const text = isInFile
      ? `what was written through the server stands in ${name}`
      : `what was written through the server does not stand in ${name}`;
    return { isInFile, text };
  } catch (error) {
    if (!(error instanceof CommandError || error instanceof SyntaxError)) throw error;
    return { isInFile: undefined, text: `ovsdb-tool can not read ${name}: ${error.message}` };
  }
}
