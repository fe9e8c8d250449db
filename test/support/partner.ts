/** Somebody on a network who needs no relay: a namespace joined to the bridge by a veth pair. */
import { run } from '../../src/exec.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';

export interface Partner {
  readonly netns: string;
  /** Its interface. */
  readonly device: string;
  readonly address: string;
  readonly mac: string;
  remove(): Promise<void>;
}

const DEVICE = 'eth0';

/** `host` is the last number of its address 10.9.0.N. Whoever makes it removes it. */
export async function createPartner(sandbox: TestSandbox, tag: number, host: number): Promise<Partner> {
  const netns = `${sandbox.prefix}-partner${host}`;
  const port = `partner${host}`;
  const address = `10.9.0.${host}`;
  const mac = `02:00:00:00:01:${host.toString(16).padStart(2, '0')}`;
  const ip = (...args: string[]) => run('ip', args, { timeoutMs: scaled(5_000) });
  await ip('netns', 'add', netns);
  await ip(
    ...['-n', sandbox.netns, 'link', 'add', port, 'type', 'veth'],
    ...['peer', 'name', DEVICE, 'netns', netns, 'address', mac],
  );
  await ip('-n', sandbox.netns, 'link', 'set', port, 'up');
  await ip('-n', netns, 'addr', 'add', `${address}/24`, 'dev', DEVICE);
  await ip('-n', netns, 'link', 'set', DEVICE, 'up');
  // A veth leaves checksums to its other end, which on the netdev datapath is a socket that does not know.
  await run('ip', ['netns', 'exec', netns, 'ethtool', '-K', DEVICE, 'tx', 'off'], { timeoutMs: scaled(5_000) });
  await sandbox.vsctl('add-port', 'br-int', port, `tag=${tag}`);
  return {
    netns,
    device: DEVICE,
    address,
    mac,
    async remove() {
      await sandbox.vsctl('--if-exists', 'del-port', 'br-int', port);
      await ip('netns', 'delete', netns);
    },
  };
}
