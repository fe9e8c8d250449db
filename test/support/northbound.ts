/** The northbound database of a sandbox, as the control process sees it. */
import { createNetworks, type Networks } from '../../src/control/networks.js';
import { type Northbound, openNorthbound } from '../../src/ovn/northbound.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';

export const northboundSocket = (sandbox: TestSandbox): string => sandbox.env['OVN_NB_DB']?.replace('unix:', '') ?? '';

/** A connection of its own; it ends with the test. */
export function openTestNorthbound(
  sandbox: TestSandbox,
  probes: { readonly probeIntervalMs?: number; readonly probeTimeoutMs?: number } = {},
): { readonly northbound: Northbound; readonly networks: Networks } {
  const northbound = openNorthbound({ target: { transport: 'unix', path: northboundSocket(sandbox) }, ...probes });
  sandbox.defer(() => northbound.stop());
  return { northbound, networks: createNetworks({ northbound, timeoutMs: scaled(10_000) }) };
}

/** Every row of the tables that we write, without what northd counts: two equal texts are two equal databases. */
export async function northboundRows(sandbox: TestSandbox): Promise<string> {
  const tables = [
    ['Logical_Switch', 'name,ports,other_config,external_ids'],
    ['Logical_Switch_Port', 'name,addresses,dynamic_addresses,external_ids'],
  ] as const;
  const texts = await Promise.all(
    tables.map(([table, columns]) => sandbox.nbctl('--format=csv', `--columns=${columns}`, 'list', table)),
  );
  return texts.map((text) => text.split('\n').sort().join('\n')).join('\n\n');
}

/** Removes every switch, whoever made it, with its ports. */
export async function clearNorthbound(sandbox: TestSandbox): Promise<void> {
  const ids = (await sandbox.nbctl('--bare', '--columns=_uuid', 'list', 'Logical_Switch')).split(/\s+/).filter(Boolean);
  if (ids.length === 0) return;
  await sandbox.nbctl(...ids.flatMap((id) => ['--', 'ls-del', id]));
}
