/** Addresses and leases on real devices: ours come and go, those of others stay, and nothing runs twice. */
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { run } from '../../src/exec.js';
import { findByArgument } from '../../src/processes.js';
import type { LinkStep } from '../../src/state/links.js';
import type { DesiredLink } from '../../src/state/model.js';
import { hasDhcp, startDhcpServer } from '../support/dhcp-server.js';
import type { Partner } from '../support/partner.js';
import { type TestSandbox, useSandbox } from '../support/sandbox.js';
import { scaled } from '../support/time.js';

const box = useSandbox();
const TOOL = fileURLToPath(new URL('../tools/state-links.mjs', import.meta.url));
const TAG = 77;

interface Answer {
  readonly steps: readonly LinkStep[];
  readonly missing: readonly string[];
  readonly warnings: readonly string[];
  readonly remembered: string;
  readonly left: readonly LinkStep[];
}

interface Request {
  readonly desired: readonly DesiredLink[];
  readonly remembered?: string;
  readonly undo?: boolean;
}

/** A port of br-int that OVS makes, in VLAN 77. */
async function addDevice(sandbox: TestSandbox): Promise<string> {
  const device = sandbox.uniqueName('in');
  sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-port', device)));
  await sandbox.vsctl('add-port', 'br-int', device, `tag=${TAG}`, '--', 'set', 'Interface', device, 'type=internal');
  return device;
}

const runDirOf = (sandbox: TestSandbox): string => join(sandbox.runDir, 'dhcp');

async function ask(sandbox: TestSandbox, request: Request, { timeoutMs = 10_000, env = {} } = {}): Promise<unknown> {
  const args = [TOOL, runDirOf(sandbox), String(scaled(timeoutMs)), JSON.stringify(request)];
  const options = { timeoutMs: scaled(timeoutMs + 10_000), env: { ...sandbox.fullEnv, ...env } };
  const { stdout } = await run(...sandbox.inNamespace(process.execPath, args), options);
  return JSON.parse(stdout);
}

async function bring(sandbox: TestSandbox, request: Request, env = {}): Promise<Answer> {
  const answer = (await ask(sandbox, request, { env })) as Answer;
  expect(answer).toHaveProperty('steps');
  return answer;
}

const link = (device: string, more: Partial<DesiredLink> = {}): DesiredLink => ({
  ...{ device, bridge: 'br-int', addresses: [], dhcp: false, up: true, mtu: undefined },
  ...more,
});

interface ShownAddress {
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly broadcast?: string;
  readonly valid_life_time: number;
}

async function shown(sandbox: TestSandbox, device: string) {
  const { stdout } = await run('ip', ['-n', sandbox.netns, '-j', 'address', 'show', 'dev', device], {
    timeoutMs: scaled(5_000),
  });
  const [entry] = JSON.parse(stdout) as { flags: string[]; mtu: number; addr_info: ShownAddress[] }[];
  if (entry === undefined) throw new Error(`no device ${device}`);
  return { ...entry, addresses: entry.addr_info.filter(({ scope }) => scope !== 'link') };
}

async function addresses(sandbox: TestSandbox, device: string): Promise<string[]> {
  return (await shown(sandbox, device)).addresses.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
}

const ip = (sandbox: TestSandbox, ...args: string[]) =>
  run('ip', ['-n', sandbox.netns, ...args], { timeoutMs: scaled(5_000) });

describe('addresses', () => {
  it('are set, and a second time nothing is done', async () => {
    const sandbox = box.current;
    const device = await addDevice(sandbox);
    const desired = [link(device, { addresses: ['10.7.0.1/24', 'fd07::1/64'] })];
    const first = await bring(sandbox, { desired });
    expect(first.steps.map(({ kind }) => kind)).toEqual(['set-up', 'add-address', 'add-address']);
    expect(first).toMatchObject({ missing: [], left: [], remembered: `${device}=10.7.0.1/24,fd07::1/64` });
    const after = await shown(sandbox, device);
    expect(after.flags).toContain('UP');
    expect(await addresses(sandbox, device)).toEqual(['10.7.0.1/24', 'fd07::1/64']);
    expect(after.addresses[0]?.broadcast).toBe('10.7.0.255');
    expect((await bring(sandbox, { desired, remembered: first.remembered })).steps).toEqual([]);
  });

  it('that somebody else set stay, though the kernel takes them away with ours', async () => {
    const sandbox = box.current;
    const device = await addDevice(sandbox);
    await ip(sandbox, 'link', 'set', device, 'up');
    const { remembered } = await bring(sandbox, { desired: [link(device, { addresses: ['10.7.0.1/24'] })] });
    // Of one subnet with ours, and after it: to the kernel it is secondary.
    await ip(sandbox, 'address', 'add', '10.7.0.9/24', 'dev', device);
    const desired = [link(device, { addresses: ['10.7.0.2/24'] })];
    const { steps, left } = await bring(sandbox, { desired, remembered });
    expect(steps.map(({ kind }) => kind)).toEqual(['remove-address', 'add-address']);
    expect(left).toEqual([]);
    expect((await addresses(sandbox, device)).sort()).toEqual(['10.7.0.2/24', '10.7.0.9/24']);
  });

  it('are as before when it is taken back', async () => {
    const sandbox = box.current;
    const device = await addDevice(sandbox);
    const { remembered } = await bring(sandbox, { desired: [link(device, { addresses: ['10.7.0.1/24'] })] });
    // The kernel forgets it when the device is down.
    await ip(sandbox, 'address', 'add', 'fd07::9/64', 'dev', device, 'nodad');
    const desired = [link(device, { addresses: ['10.7.0.2/24'], mtu: 1400, up: false })];
    const { steps } = await bring(sandbox, { desired, remembered, undo: true });
    expect(steps.map(({ kind }) => kind)).toEqual(['remove-address', 'set-mtu', 'set-down', 'add-address']);
    const after = await shown(sandbox, device);
    expect([after.mtu, after.flags.includes('UP')]).toEqual([1500, true]);
    expect(await addresses(sandbox, device)).toEqual(['10.7.0.1/24', 'fd07::9/64']);
  });

  it('of a device that is not there are told, with what ip says', async () => {
    const sandbox = box.current;
    expect(await ask(sandbox, { desired: [link('nosuch0', { addresses: ['10.7.0.1/24'] })] })).toEqual({
      code: 'command-failed',
      message: 'can not set nosuch0 up: Cannot find device "nosuch0"',
    });
  });
});

describe.skipIf(!hasDhcp)('dhcp (needs udhcpc, udhcpd and dhclient; scripts/setup --all installs them)', () => {
  const startServer = (sandbox: TestSandbox): Promise<Partner> => startDhcpServer(sandbox, TAG);
  const clients = (sandbox: TestSandbox, device: string, command = 'udhcpc') =>
    findByArgument(command, join(runDirOf(sandbox), `dhcp-${device}.pid`));

  /** Whatever a test leaves is ended after it. */
  function deferStop(sandbox: TestSandbox, device: string): void {
    sandbox.defer(async () => {
      for (const command of ['udhcpc', 'dhclient']) {
        for (const { pid } of await clients(sandbox, device, command)) process.kill(pid, 'SIGKILL');
      }
      rmSync(runDirOf(sandbox), { recursive: true, force: true });
    });
  }

  /** An environment in which no other programs are installed. */
  async function onlyCommands(sandbox: TestSandbox, ...commands: string[]): Promise<{ PATH: string }> {
    const folder = join(sandbox.runDir, 'bin');
    mkdirSync(folder);
    sandbox.defer(async () => rmSync(folder, { recursive: true }));
    const { stdout } = await run('which', commands, { timeoutMs: scaled(5_000) });
    for (const path of stdout.trim().split('\n')) symlinkSync(path, join(folder, basename(path)));
    return { PATH: folder };
  }

  it('gets a lease, once, that goes with its client and touches nothing else', async () => {
    const sandbox = box.current;
    const partner = await startServer(sandbox);
    const device = await addDevice(sandbox);
    deferStop(sandbox, device);
    await ip(sandbox, 'link', 'set', device, 'up');
    await ip(sandbox, 'address', 'add', '10.9.0.200/24', 'dev', device);
    const resolver = readFileSync('/etc/resolv.conf', 'utf8');

    const desired = [link(device, { dhcp: true })];
    const first = await bring(sandbox, { desired });
    expect(first.steps).toEqual([{ kind: 'start-dhcp', device }]);
    expect(first.left).toEqual([]);
    expect((await addresses(sandbox, device)).sort()).toEqual(['10.9.0.200/24', '10.9.0.50/24']);
    const lease = (await shown(sandbox, device)).addresses.find(({ local }) => local === '10.9.0.50');
    expect(lease?.valid_life_time).toBeLessThanOrEqual(600);
    expect((await ip(sandbox, 'route', 'show', 'default')).stdout).toContain(
      `default via ${partner.address} dev ${device}`,
    );
    const running = await clients(sandbox, device);
    expect(running).toHaveLength(1);

    expect((await bring(sandbox, { desired })).steps).toEqual([]);
    expect(await clients(sandbox, device)).toEqual(running);

    const last = await bring(sandbox, { desired: [] });
    expect(last.steps).toEqual([{ kind: 'stop-dhcp', device }]);
    expect(await clients(sandbox, device)).toEqual([]);
    expect(await addresses(sandbox, device)).toEqual(['10.9.0.200/24']);
    expect((await ip(sandbox, 'route', 'show', 'default')).stdout).toBe('');
    expect(readFileSync('/etc/resolv.conf', 'utf8')).toBe(resolver);
  });

  it('starts a client again that was killed or has lost its lease, and stops one that hangs', async () => {
    const sandbox = box.current;
    await startServer(sandbox);
    const device = await addDevice(sandbox);
    deferStop(sandbox, device);
    const desired = [link(device, { dhcp: true })];
    await bring(sandbox, { desired });
    const [killed] = await clients(sandbox, device);
    if (killed === undefined) throw new Error('no client');
    process.kill(killed.pid, 'SIGKILL');
    const again = await bring(sandbox, { desired });
    expect(again.steps).toEqual([{ kind: 'start-dhcp', device }]);
    expect(await addresses(sandbox, device)).toEqual(['10.9.0.50/24']);

    await ip(sandbox, 'address', 'del', '10.9.0.50/24', 'dev', device);
    const mended = await bring(sandbox, { desired });
    expect([mended.steps, mended.left]).toEqual([[{ kind: 'start-dhcp', device }], []]);
    expect(await addresses(sandbox, device)).toEqual(['10.9.0.50/24']);
    expect(await clients(sandbox, device)).toHaveLength(1);

    const [hanging] = await clients(sandbox, device);
    if (hanging === undefined) throw new Error('no client');
    process.kill(hanging.pid, 'SIGSTOP');
    await bring(sandbox, { desired: [] });
    expect(await clients(sandbox, device)).toEqual([]);
    expect(await addresses(sandbox, device)).toEqual([]);
  });

  it('takes dhclient where udhcpc is not installed', async () => {
    const sandbox = box.current;
    const partner = await startServer(sandbox);
    const device = await addDevice(sandbox);
    deferStop(sandbox, device);
    await ip(sandbox, 'link', 'set', device, 'up');
    await ip(sandbox, 'address', 'add', '10.9.0.200/24', 'dev', device);
    const env = await onlyCommands(sandbox, 'ip', 'dhclient', 'cat', 'rm');
    const desired = [link(device, { dhcp: true })];
    expect((await bring(sandbox, { desired }, env)).left).toEqual([]);
    expect((await addresses(sandbox, device)).sort()).toEqual(['10.9.0.200/24', '10.9.0.50/24']);
    expect((await ip(sandbox, 'route', 'show', 'default')).stdout).toContain(`via ${partner.address} dev ${device}`);
    expect(await clients(sandbox, device, 'dhclient')).toHaveLength(1);
    expect((await bring(sandbox, { desired }, env)).steps).toEqual([]);
    await bring(sandbox, { desired: [] }, env);
    expect(await clients(sandbox, device, 'dhclient')).toEqual([]);
    expect(await addresses(sandbox, device)).toEqual(['10.9.0.200/24']);
    expect(readdirSync(runDirOf(sandbox))).toEqual([]);
  });

  it('says that nobody answers, and leaves no client', async () => {
    const sandbox = box.current;
    const device = await addDevice(sandbox);
    deferStop(sandbox, device);
    expect(await ask(sandbox, { desired: [link(device, { dhcp: true })] }, { timeoutMs: 3_000 })).toMatchObject({
      code: expect.stringMatching(/^(command-failed|timed-out)$/),
      message: expect.stringMatching(
        new RegExp(`^no lease by DHCP on ${device}: udhcpc: .*Does a DHCP server answer there`),
      ),
    });
    expect(await clients(sandbox, device)).toEqual([]);
    expect(await addresses(sandbox, device)).toEqual([]);
  });

  it('says which package is missing', async () => {
    const sandbox = box.current;
    const device = await addDevice(sandbox);
    deferStop(sandbox, device);
    const answer = await ask(
      sandbox,
      { desired: [link(device, { dhcp: true })] },
      {
        env: await onlyCommands(sandbox, 'ip'),
      },
    );
    expect(answer).toEqual({
      code: 'command-missing',
      message: `dhcp on ${device} wants a DHCP client, and none is installed (Debian: udhcpc or isc-dhcp-client)`,
    });
  });
});
