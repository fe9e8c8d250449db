/**
 * Does what OVS holds survive a reboot? The server's process and its database file are looked for, the file and what
 * lies below it are judged, and a probe that is written through the server has to be found in the file. Changes nothing
 * but the probe, which is removed again.
 */
import { randomUUID } from 'node:crypto';
import { errnoOf } from '../errors.js';
import type { Finding } from '../finding.js';
import { ovsdbFailure } from '../ovs/failures.js';
import { ovsPlaces } from '../ovs/places.js';
import { OVS_DATABASE } from '../ovs/port-commands.js';
import { type OvsdbClient, withOvsdb } from '../ovsdb/client.js';
import type { CallOptions, RpcTarget } from '../ovsdb/json-rpc.js';
import { judgeFile } from './file-findings.js';
import { type ProbeResult, writeProbe } from './probe.js';
import { checkRunningUnits } from './running-units.js';
import { type DatabaseFile, findDatabaseFile, findServers, rootedPath } from './server.js';
import { findStalePorts } from './stale-ports.js';
import { checkStart } from './vswitchd-start.js';

export interface CheckOptions extends CallOptions {
  /** Of ovsdb-server; where ovs-vsctl would look when it is not given. */
  readonly ovsSocketPath: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Where the database is expected to be, when that was said. */
  readonly databasePath?: string | undefined;
}

/** Without these being `ok` nothing is proven. */
const PROOFS = ['database-file', 'database-file-system', 'database-probe'];

/** True: it was proven that what OVS holds survives, and nothing speaks against it. */
export function isPersistent(findings: readonly Finding[]): boolean {
  const isProven = PROOFS.every((proof) => findings.some(({ id, verdict }) => id === proof && verdict === 'ok'));
  return isProven && findings.every(({ verdict }) => verdict !== 'problem');
}

/** Rejects with `ovs-unreachable` or `ovs-timeout`; everything else is told as a finding. */
export async function checkPersistence(options: CheckOptions): Promise<readonly Finding[]> {
  const places = ovsPlaces(options.ovsSocketPath, options.env);
  const { socketPath } = places;
  const target: RpcTarget = { transport: 'unix', path: socketPath };
  try {
    return await withOvsdb(target, options, async (client, left) => {
      const { files, unseen } = await findFiles(socketPath);
      const probed = await probeFiles(client, files, left);
      // Of several, the one that the probe reached is the one that answers on the socket.
      const proven = probed.find(({ probe }) => probe.isInFile) ?? probed[0];
      return [
        ...(proven === undefined ? [unseen] : await judgeFile(proven.file, proven.probe, options.databasePath)),
        ...(await checkRunningUnits(proven?.file.pid, left())),
        ...(await checkStart(client, places, left())),
        ...(await findStalePorts(client, places, left())),
      ];
    });
  } catch (error) {
    throw ovsdbFailure(error, target, 'checking whether the database survives a reboot');
  }
}

interface FoundFiles {
  readonly files: readonly DatabaseFile[];
  /** What to say when there are none. */
  readonly unseen: Finding;
}

async function findFiles(socketPath: string): Promise<FoundFiles> {
  const told = (verdict: Finding['verdict'], evidence: string, mend?: string): Finding => ({
    ...{ id: 'database-file', title: 'file of the database', verdict, subject: socketPath, evidence },
    ...(mend && { mend }),
  });
  const servers = await findServers(socketPath);
  if (servers.length === 0) {
    const evidence =
      `no ovsdb-server that listens on ${socketPath} is to be seen among the processes here: ` +
      'it runs in another container, or only root may look';
    return { files: [], unseen: told('unknown', evidence, 'run this as root, where ovsdb-server runs') };
  }
  try {
    const found = await Promise.all(servers.map((pid) => findDatabaseFile(pid, OVS_DATABASE)));
    const files = found.filter((file) => file !== undefined);
    const evidence = `ovsdb-server (process ${servers.join(', ')}) has no file of the database ${OVS_DATABASE} open; a relay holds nothing itself`;
    return { files, unseen: told('problem', evidence, 'ask the server that holds the database') };
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error;
    const evidence = `the files of ovsdb-server (process ${servers.join(', ')}) may not be looked at`;
    return { files: [], unseen: told('unknown', evidence, 'run this as root') };
  }
}

interface ProbedFile {
  readonly file: DatabaseFile;
  readonly probe: ProbeResult;
}

async function probeFiles(
  client: OvsdbClient,
  files: readonly DatabaseFile[],
  left: () => CallOptions,
): Promise<ProbedFile[]> {
  if (files.length === 0) return [];
  const probe = await writeProbe(client, randomUUID(), left());
  try {
    // By the path, not by what the server has open: that is what the next server reads.
    return await Promise.all(
      files.map(async (file) => ({
        file,
        probe: await probe.isIn(rootedPath(file.pid, file.path), file.path, left()),
      })),
    );
  } finally {
    await probe.remove(left());
  }
}
