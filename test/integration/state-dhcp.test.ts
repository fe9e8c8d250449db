/** `dhcp` in a state file: `arca state apply` gets a lease from a real server, once, and gives it back. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { findByArgument } from '../../src/processes.js';
import { hasDhcp, startDhcpServer } from '../support/dhcp-server.js';
import { useSandbox } from '../support/sandbox.js';
import { apply, arcaState, pathsOf, stateText } from '../support/state.js';

const box = useSandbox();
const BRIDGE = { name: 'sb0', ports: ['partner9'], internal_ports: ['sb0-if'] };
const WITH_DHCP = stateText([{ ...BRIDGE, dhcp: true }]);

const LEASE = / 10\.9\.0\.5[01]\/24 /;

const clients = () => findByArgument('udhcpc', join(box.current.runDir, 'ovs-dhcp', 'dhcp-sb0-if.pid'));

async function addresses(): Promise<string> {
  return (await box.current.exec('ip', ['-4', '-brief', 'address', 'show', 'dev', 'sb0-if'])).stdout;
}

describe.skipIf(!hasDhcp)('dhcp in a state file (needs udhcpc, udhcpd and dhclient)', () => {
  /** Leases to that address. */
  async function startServer(last: string): Promise<void> {
    await startDhcpServer(box.current, 1, last);
    // The state file takes the server's port.
    await box.current.vsctl('del-port', 'partner9');
  }

  it('gets a lease; a second apply changes nothing; without it the client ends, and the lease goes', async () => {
    const sandbox = box.current;
    await startServer('10.9.0.50');
    const first = await apply(sandbox, WITH_DHCP);
    expect(first).toMatchObject({ exitCode: 0, changed: true });
    expect(pathsOf(first.changes)).toContain('create device sb0-if, DHCP client');
    expect(await addresses()).toMatch(LEASE);
    const running = await clients();
    expect(running).toHaveLength(1);
    expect((await arcaState(sandbox, 'verify', WITH_DHCP)).exitCode).toBe(0);

    expect((await apply(sandbox, WITH_DHCP)).changed).toBe(false);
    expect(await clients()).toEqual(running);

    const last = await apply(sandbox, stateText([BRIDGE]));
    expect(pathsOf(last.changes)).toEqual(['delete device sb0-if, DHCP client']);
    expect(await clients()).toEqual([]);
    expect(await addresses()).not.toMatch(LEASE);
  });

  it('has a lease again when its bridge was removed and that was taken back', async () => {
    const sandbox = box.current;
    // A device that OVS made anew has another MAC address, and the lease of the old one has not run out.
    await startServer('10.9.0.51');
    expect((await apply(sandbox, WITH_DHCP)).exitCode).toBe(0);
    const failed = await apply(sandbox, stateText([{ name: 'sb1', ports: ['nodev0'] }]));
    expect(failed.exitCode).toBe(ERROR_KINDS['state-incomplete'].exitCode);
    expect(failed.stderr).toContain('All of it was taken back');
    expect(await addresses()).toMatch(LEASE);
    expect(await clients()).toHaveLength(1);
    expect((await arcaState(sandbox, 'verify', WITH_DHCP)).exitCode).toBe(0);
  });

  it('that gets no lease then is told as what is not as before', async () => {
    const sandbox = box.current;
    await startServer('10.9.0.50');
    expect((await apply(sandbox, WITH_DHCP)).exitCode).toBe(0);
    const failed = await apply(sandbox, stateText([{ name: 'sb1', ports: ['nodev0'] }]));
    expect(failed.error?.details['left']).toEqual(['delete device sb0-if, DHCP client']);
    expect(failed.stderr).toContain('could not be taken back (no lease by DHCP on sb0-if');
    const { stdout } = await arcaState(sandbox, 'verify', WITH_DHCP);
    expect(stdout).toBe('! device sb0-if, DHCP client: is missing\n');
  });

  it('ends with its bridge', async () => {
    const sandbox = box.current;
    await startServer('10.9.0.50');
    expect((await apply(sandbox, WITH_DHCP)).exitCode).toBe(0);
    expect(await apply(sandbox, stateText([]))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await clients()).toEqual([]);
    expect((await arcaState(sandbox, 'verify', stateText([]))).exitCode).toBe(0);
  });
});
