/**
 * The ovn-controller of this host: whether one runs on this OVS, and what it is told to register as, which are keys in
 * `external_ids` of the Open_vSwitch row (ovn-controller(8)).
 */
import { dirname, join } from 'node:path';
import { withOvsdb } from '../ovsdb/client.js';
import { type CallOptions, connectRpc } from '../ovsdb/json-rpc.js';
import { map, set, textMap } from '../ovsdb/values.js';
import { readPidFiles } from '../processes.js';
import { ovnRunDir } from './places.js';

export interface ControllerSettings {
  readonly systemId: string | undefined;
  /** Of the southbound database. */
  readonly remote: string | undefined;
  readonly encapTypes: readonly string[];
  readonly encapIps: readonly string[];
}

export interface LocalController {
  readonly settings: ControllerSettings;
  /** It answers on its control socket. */
  readonly isRunning: boolean;
}

const OVS_DATABASE = 'Open_vSwitch';
const PROBE_TIMEOUT_MS = 1000;

/** Rejects with `RpcError` when OVS's database does not answer. */
export async function readLocalController(
  ovsSocketPath: string,
  env: NodeJS.ProcessEnv,
  call: CallOptions,
): Promise<LocalController> {
  return withOvsdb({ transport: 'unix', path: ovsSocketPath }, call, async (client, left) => {
    const columns = ['external_ids'];
    const [found] = await client.transact(
      OVS_DATABASE,
      [{ op: 'select', table: 'Open_vSwitch', where: [], columns }],
      left(),
    );
    const settings = readControllerSettings(textMap(found?.rows?.[0]?.['external_ids']));
    return { settings, isRunning: await controllerRuns(ovsSocketPath, env, left()) };
  });
}

/** Pure. Types and addresses may be several, with commas. */
export function readControllerSettings(externalIds: Readonly<Record<string, string>>): ControllerSettings {
  const list = (key: string): readonly string[] => (externalIds[key] ?? '').split(',').filter(Boolean);
  return {
    systemId: externalIds['system-id'] || undefined,
    remote: externalIds['ovn-remote'] || undefined,
    encapTypes: list('ovn-encap-type'),
    encapIps: list('ovn-encap-ip'),
  };
}

/** ovn-controller registers by itself as soon as it has all four. */
export async function writeControllerSettings(
  ovsSocketPath: string,
  { systemId, remote, encapIp }: { readonly systemId: string; readonly remote: string; readonly encapIp: string },
  call: CallOptions,
): Promise<void> {
  const entries = { 'system-id': systemId, 'ovn-remote': remote, 'ovn-encap-type': 'geneve', 'ovn-encap-ip': encapIp };
  const mutations = [
    ['external_ids', 'delete', set(Object.keys(entries))],
    ['external_ids', 'insert', map(entries)],
  ] as const;
  await withOvsdb({ transport: 'unix', path: ovsSocketPath }, call, (client, left) =>
    client.transact(OVS_DATABASE, [{ op: 'mutate', table: 'Open_vSwitch', where: [], mutations }], left()),
  );
}

/** By its pidfile, in the directories where OVN's tools look, and by an answer on its control socket. */
async function controllerRuns(ovsSocketPath: string, env: NodeJS.ProcessEnv, call: CallOptions): Promise<boolean> {
  const runDirs = new Set([dirname(ovsSocketPath), ovnRunDir(env)]);
  for (const { pid, runDir } of await readPidFiles(runDirs, 'ovn-controller.pid')) {
    const path = join(runDir, `ovn-controller.${pid}.ctl`);
    const options = { ...call, timeoutMs: Math.min(call.timeoutMs, PROBE_TIMEOUT_MS) };
    // The socket of one that was killed takes no connection; one that is stopped does, and is none the less there.
    const connection = await connectRpc({ transport: 'unix', path }, options).catch(() => undefined);
    if (connection === undefined) continue;
    connection.close();
    return true;
  }
  return false;
}
