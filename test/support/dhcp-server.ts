/** A DHCP server on a host of its own beside the bridge. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { startInBackground } from './background.js';
import { createPartner, type Partner } from './partner.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';

const isInstalled = (command: string): boolean =>
  ['/usr/sbin', '/sbin', '/usr/bin'].some((folder) => existsSync(join(folder, command)));

/** Whether server and clients are installed; scripts/setup --all does it. */
export const hasDhcp = ['udhcpc', 'udhcpd', 'dhclient'].every(isInstalled);

/** On the port `partner9` of br-int, in that VLAN; it leases 10.9.0.50 (to `last`), and gives itself as the router. It goes with the test. */
export async function startDhcpServer(sandbox: TestSandbox, tag: number, last = '10.9.0.50'): Promise<Partner> {
  const partner = await createPartner(sandbox, tag, 9);
  sandbox.defer(async () => {
    // At once: the kernel would take it away with the namespace, when it finds the time.
    await run('ip', ['-n', sandbox.netns, 'link', 'delete', 'partner9'], { timeoutMs: scaled(5_000) });
    await partner.remove();
  });
  const folder = join(sandbox.runDir, 'dhcp-server');
  mkdirSync(folder);
  sandbox.defer(async () => rmSync(folder, { recursive: true }));
  const [config, leases] = [join(folder, 'conf'), join(folder, 'leases')];
  writeFileSync(leases, '');
  const lines = [
    ...['start 10.9.0.50', `end ${last}`, `interface ${partner.device}`, `lease_file ${leases}`],
    ...[`pidfile ${join(folder, 'pid')}`, 'option subnet 255.255.255.0', `option router ${partner.address}`],
    'option lease 600',
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  const server = startInBackground('ip', ['netns', 'exec', partner.netns, 'udhcpd', '-f', config]);
  sandbox.defer(server.destroy);
  await server.stderr.waitFor(/started/);
  return partner;
}
