/** `arca state` where the datapath makes a difference; scripts/test runs it on the kernel's, too. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { addDevice, apply, arcaState, stateText } from '../support/state.js';

const box = useSandbox();

describe("the origin document's example", () => {
  const ORIGIN = readFileSync(new URL('../../docs/examples/state.json', import.meta.url), 'utf8');

  it('applies as printed, but for the datapath where the kernel has none: devices, addresses, flows, and its warning', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'eth0');
    const file = ORIGIN.replaceAll('"system"', JSON.stringify(testDatapath()));
    const answer = await apply(sandbox, file);
    expect(answer).toMatchObject({ exitCode: 0, changed: true });
    expect(answer.warnings[0]).toContain('drops ARP requests, DHCP requests');
    // Its database_path is not where the sandbox has its database.
    expect(answer.warnings[1]).toContain('this may not survive a reboot: ');
    expect(answer.warnings).toHaveLength(2);
    const addresses = (await sandbox.exec('ip', ['-brief', 'address'])).stdout;
    expect(addresses).toMatch(/^vmbr0-if .* 10\.0\.0\.1\/24/m);
    expect(addresses).toMatch(/^vmbr1-if .* 10\.0\.1\.1\/24/m);
    expect(await sandbox.vsctl('list-ports', 'vmbr0')).toBe('eth0\nvmbr0-if');
    expect((await apply(sandbox, file)).changed).toBe(false);
    expect((await arcaState(sandbox, 'verify', file)).exitCode).toBe(0);
  });

  it.skipIf(testDatapath() === 'system')(
    'as printed on a kernel without that datapath: says so, and takes all of it back',
    async () => {
      const sandbox = box.current;
      await addDevice(sandbox, 'eth0');
      const before = await sandbox.vsctl('show');
      const answer = await apply(sandbox, ORIGIN);
      expect(answer.exitCode).toBe(ERROR_KINDS['state-incomplete'].exitCode);
      expect(answer.stderr).toContain('bridge vmbr0: ovs-vswitchd could not make it with the datapath system');
      expect(answer.stderr).toContain('All of it was taken back');
      expect(await sandbox.vsctl('show')).toBe(before);
    },
  );
});

describe('a device that is gone', () => {
  it('is seen by verify, whether OVS tells it or keeps the port as it was', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    const file = stateText([{ name: 'sb0', ports: ['sd0'] }]);
    await apply(sandbox, file);
    await sandbox.exec('ip', ['link', 'delete', 'sd0']);
    const { exitCode, stdout } = await arcaState(sandbox, 'verify', file);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(
      /^! bridge sb0, port sd0: (its device is gone|could not open network device sd0 \(No such device\))\n$/,
    );
  });
});

describe('a change of the datapath that is taken back', () => {
  it('leaves our addresses, MTU and flows as they were, though the bridge was made anew for it', async () => {
    const sandbox = box.current;
    const bridge = {
      name: 'sb0',
      internal_ports: ['sb0-if', 'sb0-if2'],
      address: ['10.99.0.1/24', 'fd00:99::1/64'],
      openflow: { auto_apply_defaults: true, default_rules: ['in_port=sb0-if2,actions=normal', 'actions=normal'] },
    };
    const before = stateText([bridge]);
    expect((await apply(sandbox, before)).exitCode).toBe(0);
    await sandbox.exec('ip', ['link', 'set', 'sb0-if', 'mtu', '1400']);
    const other = testDatapath() === 'system' ? 'netdev' : 'system';
    const wrong = { ...bridge, datapath_type: other, ports: ['nodev0'], address: '10.99.0.2/24' };
    const answer = await apply(sandbox, stateText([wrong]));
    expect(answer.exitCode).toBe(ERROR_KINDS['state-incomplete'].exitCode);
    expect(answer.stderr).toContain('All of it was taken back');
    expect(await arcaState(sandbox, 'verify', before)).toMatchObject({ exitCode: 0, stderr: '' });
    expect((await sandbox.exec('ip', ['link', 'show', 'sb0-if'])).stdout).toContain(' mtu 1400 ');
  });
});
