/**
 * Does ovs-vswitchd handle what the kernel datapath sends up? OVS 3.1 counts the processors at most every 10 s, by a
 * clock that starts at boot: started earlier it takes the count to be 0, starts no handler thread, and bridges of the
 * kernel datapath drop everything, until the next change of any bridge.
 */
import { readdir, readFile } from 'node:fs/promises';
import type { Finding } from '../finding.js';
import type { OvsPlaces } from '../ovs/places.js';
import { OVS_DATABASE } from '../ovs/port-commands.js';
import type { OvsdbClient } from '../ovsdb/client.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { text } from '../ovsdb/values.js';
import { vswitchdPid } from './stale-ports.js';

/** Nothing to say where no bridge has the kernel datapath. */
export async function checkHandlers(client: OvsdbClient, places: OvsPlaces, call: CallOptions): Promise<Finding[]> {
  const [bridges] = await client.transact(
    OVS_DATABASE,
    [{ op: 'select', table: 'Bridge', where: [], columns: ['name', 'datapath_type', 'datapath_version'] }],
    call,
  );
  const inKernel = (bridges?.rows ?? []).filter(
    (row) => ['', 'system'].includes(text(row['datapath_type'])) && text(row['datapath_version']) !== '',
  );
  const pid = await vswitchdPid(places);
  if (inKernel.length === 0 || pid === undefined) return [];
  return [
    judgeHandlers(
      pid,
      await threadNames(pid),
      inKernel.map((row) => text(row['name'])),
    ),
  ];
}

export function judgeHandlers(pid: number, threads: readonly string[], bridges: readonly string[]): Finding {
  const about = {
    id: 'vswitchd-handlers',
    title: 'handler threads',
    subject: `ovs-vswitchd (process ${pid})`,
  } as const;
  const count = threads.filter((name) => name.startsWith('handler')).length;
  if (count > 0) return { ...about, verdict: 'ok', evidence: `${count} of them serve the kernel datapath` };
  return {
    ...about,
    verdict: 'problem',
    evidence: `it has none, so ${bridges.join(', ')} forward nothing; OVS 3.1 starts none in the first 10 s after a boot`,
    mend: 'systemctl restart ovs-vswitchd; for the next boots: arca persistence setup',
  };
}

async function threadNames(pid: number): Promise<string[]> {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  return Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/comm`, 'utf8').catch(() => '')));
}
