/**
 * What a relay can't start on: each with its own exit code, a message that names what is wrong and what mends it, and
 * nothing left behind, which useSandbox looks for after each test.
 */
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS, type ErrorCode } from '../../src/errors.js';
import { run } from '../../src/exec.js';
import type { DaemonName } from '../../src/sandbox/sandbox.js';
import { newEndpoint } from '../support/endpoint.js';
import { IN_NESTED_KERNEL } from '../support/nested-kernel.js';
import { type RelayStart, spawnRelay, startRelay } from '../support/relay.js';
import { type TestSandbox, useSandbox } from '../support/sandbox.js';
import { eventually, SLOWDOWN, scaled } from '../support/time.js';
import { NO_VSOCK_TOOL } from '../support/tools.js';

const NETWORK = 'net-a';
const CLEAN_EXIT = { exitCode: 0, signal: null };
/** For a start that is to run into its deadline; still enough for the steps before. */
const SHORT_TIMEOUT_S = SLOWDOWN;
/** Beyond its deadline: loading the program, and undoing what was done. */
const SLACK_MS = 2_000 * SLOWDOWN;

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch(NETWORK, 100);
  return undefined;
});

interface Refusal {
  readonly message: string;
  readonly tookMs: number;
}

/** Starts it, and expects that it ends with that error, told on stderr and to whoever waits at the notify descriptor. */
async function refusal(code: ErrorCode, start: RelayStart): Promise<Refusal> {
  const startedAt = performance.now();
  const relay = spawnRelay(box.current, start);
  const ended = await relay.waitForEnd(20_000);
  const tookMs = performance.now() - startedAt;
  const last = relay.events.at(-1);
  const { exitCode } = ERROR_KINDS[code];
  expect(last, relay.log()).toMatchObject({ event: 'failed', code, exitCode });
  expect(ended).toEqual({ exitCode, signal: null });
  expect(relay.events.map(({ event }) => event)).not.toContain('ready');
  const message = last?.event === 'failed' ? last.message : '';
  expect(relay.log()).toContain(JSON.stringify(message).slice(1, -1));
  return { message, tookMs };
}

function expectNamed({ message }: Refusal, ...parts: readonly string[]): void {
  for (const part of parts) expect(message).toContain(part);
}

/** Within `--timeout`, that is SHORT_TIMEOUT_S. */
function expectInTime({ tookMs }: Refusal): void {
  expect(tookMs).toBeLessThan(SHORT_TIMEOUT_S * 1000 + SLACK_MS);
}

/** What can be known at once is not told at the deadline. */
function expectAtOnce({ tookMs }: Refusal): void {
  expect(tookMs).toBeLessThan(SLACK_MS);
}

const shortTimeout = ['--timeout', String(SHORT_TIMEOUT_S)];

describe('the network', () => {
  const removeSwitch = (name: string): void =>
    box.current.defer(async () => void (await box.current.nbctl('--if-exists', 'ls-del', name)));

  it('is unknown: the command in the message mends it', async () => {
    const endpoint = newEndpoint(box.current);
    const refused = await refusal('network-unknown', { network: 'nosuch', endpoint });
    expectNamed(refused, '"nosuch"', 'ovn-nbctl ls-add nosuch');
    const mend = /ovn-nbctl (.*)$/.exec(refused.message)?.[1] ?? '';
    removeSwitch('nosuch');
    await box.current.nbctl(...mend.split(' '));
    const relay = await startRelay(box.current, { network: 'nosuch', endpoint });
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('has no tag', async () => {
    await box.current.addSwitch('untagged');
    removeSwitch('untagged');
    expectNamed(
      await refusal('tag-missing', { network: 'untagged' }),
      '"untagged"',
      'ovn-nbctl set Logical_Switch untagged external_ids:vlan_tag=',
    );
  });

  it('has a tag that is none', async () => {
    const sandbox = box.current;
    await sandbox.addSwitch('odd');
    removeSwitch('odd');
    for (const tag of ['abc', '0', '4095', '-1', '1.5', '0x64', '100 ']) {
      await sandbox.nbctl('set', 'Logical_Switch', 'odd', `external_ids:vlan_tag="${tag}"`);
      expectNamed(
        await refusal('tag-invalid', { network: 'odd' }),
        '"odd"',
        JSON.stringify(tag),
        '1 to 4094',
        'ovn-nbctl set Logical_Switch odd external_ids:vlan_tag=',
      );
    }
  });

  it.each(['1', '4094'])('has the tag %s, the last that is right', async (tag) => {
    await box.current.addSwitch('edge', tag);
    removeSwitch('edge');
    const relay = await startRelay(box.current, { network: 'edge' });
    expect(await box.current.vsctl('get', 'Port', relay.tap, 'tag')).toBe(tag);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('is the name of two switches', async () => {
    const sandbox = box.current;
    await sandbox.addSwitch('twin', 7);
    await sandbox.nbctl('--add-duplicate', 'ls-add', 'twin');
    sandbox.defer(async () => {
      const uuids = await sandbox.nbctl('--bare', '--columns=_uuid', 'find', 'Logical_Switch', 'name=twin');
      for (const uuid of uuids.split(/\s+/)) await sandbox.nbctl('ls-del', uuid);
    });
    expectNamed(await refusal('network-ambiguous', { network: 'twin' }), '2 logical switches', '"twin"', 'ls-del');
  });
});

describe('OVN and OVS', () => {
  const socketOf = (name: string): string => join(box.current.runDir, name);
  const hang = async (name: DaemonName): Promise<void> => {
    await box.current.pause(name);
    box.current.defer(() => box.current.resume(name));
  };
  const end = async (name: DaemonName): Promise<void> => {
    await box.current.kill(name);
    box.current.defer(() => box.current.start(name));
  };

  it('no northbound database at that socket', async () => {
    const nb = `unix:${socketOf('nope.sock')}`;
    const refused = await refusal('northbound-unreachable', { network: NETWORK, args: ['--nb', nb] });
    expectNamed(refused, nb, 'northbound', 'ovsdb-server', 'No such file or directory');
  });

  it('the northbound database was killed', async () => {
    await end('ovn-northbound');
    const refused = await refusal('northbound-unreachable', { network: NETWORK });
    expectNamed(refused, `unix:${socketOf('ovnnb_db.sock')}`, 'ovsdb-server');
    expectAtOnce(refused);
  });

  it('the northbound database hangs', async () => {
    await hang('ovn-northbound');
    const refused = await refusal('northbound-timeout', { network: NETWORK, args: shortTimeout });
    expectNamed(refused, `unix:${socketOf('ovnnb_db.sock')}`, 'ovsdb-server');
    expectInTime(refused);
  });

  it('no OVS database at that socket', async () => {
    const ovs = `unix:${socketOf('nope.sock')}`;
    const refused = await refusal('ovs-unreachable', { network: NETWORK, args: ['--ovs', ovs] });
    expectNamed(refused, ovs, 'ovsdb-server');
    expectAtOnce(refused);
  });

  it('the OVS database was killed', async () => {
    await end('ovsdb-server');
    expectNamed(await refusal('ovs-unreachable', { network: NETWORK }), `unix:${socketOf('db.sock')}`, 'ovsdb-server');
  });

  it('the OVS database hangs', async () => {
    await hang('ovsdb-server');
    const refused = await refusal('ovs-timeout', { network: NETWORK, args: shortTimeout });
    expectNamed(refused, `unix:${socketOf('db.sock')}`, 'ovsdb-server');
    expectInTime(refused);
  });

  it('ovs-vswitchd was killed', async () => {
    await end('ovs-vswitchd');
    const refused = await refusal('ovs-unreachable', { network: NETWORK });
    expectNamed(refused, 'ovs-vswitchd');
    expectAtOnce(refused);
  });

  it('ovs-vswitchd hangs', async () => {
    await hang('ovs-vswitchd');
    const refused = await refusal('ovs-timeout', { network: NETWORK, args: shortTimeout });
    expectNamed(refused, 'ovs-vswitchd', box.current.runDir);
    expectInTime(refused);
  });

  it('ovs-vswitchd begins to hang when the port is added: the row is committed, and removed again', async () => {
    const sandbox = box.current;
    sandbox.defer(() => sandbox.resume('ovs-vswitchd'));
    const pid = (await sandbox.daemons())['ovs-vswitchd'];
    const env = await withOwnVsctl(sandbox, `kill -STOP ${pid}; exec /usr/bin/ovs-vsctl "$@"`);
    const refused = await refusal('ovs-timeout', { network: NETWORK, env, args: shortTimeout });
    expectNamed(refused, 'ovs-vswitchd');
    expectInTime(refused);
    // While vswitchd still hangs.
    expect(await sandbox.vsctl('--no-wait', 'list-ports', 'br-int')).toBe('');
  });

  it('ovsdb-server begins to hang with the command in its queue: the next start removes what it commits late', async () => {
    const sandbox = box.current;
    const endpoint = newEndpoint(sandbox);
    sandbox.defer(() => sandbox.resume('ovsdb-server'));
    // Between ovs-vsctl and the server: the server is stopped when the transaction is on its way to it.
    const through = await stopServerAtTransaction(sandbox);
    const env = await withOwnVsctl(sandbox, `shift; exec /usr/bin/ovs-vsctl --db=unix:${through} "$@"`);
    const refused = await refusal('ovs-timeout', { network: NETWORK, env, endpoint, args: shortTimeout });
    expectNamed(refused, 'ovsdb-server');
    expectInTime(refused);
    await sandbox.resume('ovsdb-server');
    await eventually('the transaction to be committed', async () =>
      (await sandbox.vsctl('--no-wait', 'list-ports', 'br-int')) === endpoint.tap ? true : undefined,
    );
    expect(await sandbox.vsctl('get', 'Port', endpoint.tap, 'external_ids:arca-owner')).toBe('arca-relay');
    const relay = await startRelay(sandbox, { network: NETWORK, endpoint });
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('their tools are not installed', async () => {
    const wrapper = ['env', 'PATH=/nonexistent'];
    expectNamed(await refusal('command-missing', { network: NETWORK, wrapper }), 'ovn-nbctl', 'ovn-common');
    expectNamed(
      await refusal('command-missing', { args: ['--vlan', '100'], wrapper }),
      'ovs-vsctl',
      'openvswitch-switch',
    );
  });
});

/** The environment in which `ovs-vsctl` is this shell script. */
async function withOwnVsctl(sandbox: TestSandbox, script: string): Promise<{ readonly PATH: string }> {
  const folder = join(sandbox.runDir, 'bin');
  await mkdir(folder);
  sandbox.defer(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'ovs-vsctl'), `#!/bin/sh\n${script}\n`);
  await chmod(join(folder, 'ovs-vsctl'), 0o755);
  return { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
}

/** A socket that leads to ovsdb-server, and stops it (SIGSTOP) just before it passes on a transaction that inserts. */
async function stopServerAtTransaction(sandbox: TestSandbox): Promise<string> {
  const path = join(sandbox.runDir, 'through.sock');
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(join(sandbox.runDir, 'db.sock'));
    for (const socket of [client, upstream]) sockets.add(socket.on('error', () => {}));
    upstream.pipe(client);
    client.on('data', (chunk) => {
      if (!chunk.includes('"op":"insert"')) upstream.write(chunk);
      else void sandbox.pause('ovsdb-server').then(() => upstream.write(chunk));
    });
    client.on('close', () => upstream.end());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  sandbox.defer(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return path;
}

describe('the bridge', () => {
  it('does not exist', async () => {
    expectNamed(
      await refusal('bridge-missing', { network: NETWORK, args: ['--bridge', 'br-nope'] }),
      'br-nope',
      join(box.current.runDir, 'db.sock'),
      'ovs-vsctl add-br br-nope',
    );
  });

  it('is run by ovn-controller', async () => {
    const sandbox = box.current;
    sandbox.defer(async () => {
      await sandbox.kill('ovn-controller', 'SIGTERM');
      await sandbox.vsctl('--if-exists', 'del-br', 'br-ovn');
    });
    await sandbox.start('ovn-controller');
    await eventually('ovn-controller to take its bridge', async () =>
      (await sandbox.vsctl('--if-exists', 'get', 'Bridge', 'br-ovn', 'fail_mode')) === 'secure' ? true : undefined,
    );
    const refused = await refusal('bridge-black-hole', { network: NETWORK, args: ['--bridge', 'br-ovn'] });
    expectNamed(refused, 'br-ovn', 'ovn-controller', 'NORMAL', 'external_ids:ovn-bridge=');

    const auto = await refusal('attach-unsupported', {
      network: NETWORK,
      args: ['--bridge', 'br-ovn', '--attach', 'auto'],
    });
    expectNamed(auto, 'br-ovn', 'ovn-controller');
    // And br-int, beside it, is as good as ever.
    const relay = await startRelay(sandbox, { network: NETWORK, args: ['--attach', 'auto'] });
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('is secure and has no flow: refused; with a flow that does NORMAL switching it is taken', async () => {
    const sandbox = box.current;
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', 'br-sec')));
    await sandbox.vsctl(
      ...['add-br', 'br-sec', '--', 'set', 'Bridge', 'br-sec'],
      ...[`datapath_type=${sandbox.datapath}`, 'fail_mode=secure'],
    );
    const start: RelayStart = { network: NETWORK, args: ['--bridge', 'br-sec'] };
    expectNamed(await refusal('bridge-black-hole', start), 'br-sec', 'fail_mode=secure', 'NORMAL');
    const management = `unix:${join(sandbox.runDir, 'br-sec.mgmt')}`;
    await sandbox.exec('ovs-ofctl', ['add-flow', management, 'actions=NORMAL']);
    const relay = await startRelay(sandbox, start);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('--attach ovn comes with a later version, and says so', async () => {
    expectNamed(await refusal('attach-unsupported', { network: NETWORK, args: ['--attach', 'ovn'] }), '--attach ovn');
  });
});

describe('the endpoint', () => {
  it('is in use by another relay, which goes on', async () => {
    const first = await startRelay(box.current, { network: NETWORK });
    const { endpoint } = first;
    const port =
      endpoint.vsockPort === undefined ? ['--listen', endpoint.listenAddress] : ['--port', String(endpoint.vsockPort)];
    const refused = await refusal('endpoint-in-use', {
      network: NETWORK,
      endpointArgs: [...port, '--tap', box.current.uniqueName('other')],
    });
    expectNamed(refused, endpoint.listenAddress, 'somebody listens');
    expect(first.isRunning()).toBe(true);
    expect(await first.stop()).toEqual(CLEAN_EXIT);
  });

  it('is a socket in a folder that does not exist', async () => {
    const path = join(box.current.runDir, 'nope', 'x.sock');
    const refused = await refusal('endpoint-failed', {
      network: NETWORK,
      endpointArgs: ['--listen', `unix:${path}`, '--tap', box.current.uniqueName('tap')],
    });
    expectNamed(refused, path);
  });

  it('is on vsock, which the kernel does not have', async () => {
    const sandbox = box.current;
    // The nested kernel can lose its vsock; on any other one, which is not ours, the relay alone does not find it.
    if (IN_NESTED_KERNEL) await unloadVsock(sandbox);
    const refused = await refusal('vsock-missing', {
      network: NETWORK,
      endpointArgs: ['--port', '5999'],
      ...(!IN_NESTED_KERNEL && { wrapper: [NO_VSOCK_TOOL] }),
    });
    expectNamed(refused, 'vsock:5999', 'modprobe vhost_vsock');
  });
});

async function unloadVsock(sandbox: TestSandbox): Promise<void> {
  const tool = (command: string, ...args: string[]) => run(command, args, { timeoutMs: scaled(5_000) });
  const autoload = '/proc/sys/kernel/modprobe';
  const modprobe = (await readFile(autoload, 'utf8')).trim();
  sandbox.defer(async () => {
    await writeFile(autoload, modprobe);
    await tool(modprobe, 'vsock_loopback');
  });
  // The kernel would load it again when somebody asks for a socket.
  await writeFile(autoload, '/bin/false');
  const loaded = (await readFile('/proc/modules', 'utf8')).split('\n').map((line) => line.split(' ')[0] ?? '');
  // The file lists the users of a module before the module.
  for (const module of loaded.filter((name) => name.includes('vsock'))) await tool('rmmod', module);
}

describe('the TAP', () => {
  it('has the name of a device that exists, which stays', async () => {
    const sandbox = box.current;
    const endpoint = newEndpoint(sandbox);
    await sandbox.exec('ip', ['link', 'add', endpoint.tap, 'type', 'veth', 'peer', 'name', `${endpoint.tap}p`]);
    sandbox.defer(async () => void (await sandbox.exec('ip', ['link', 'delete', endpoint.tap])));
    const refused = await refusal('tap-name-in-use', { network: NETWORK, endpoint });
    expectNamed(refused, endpoint.tap, '--tap');
    await sandbox.exec('ip', ['link', 'show', endpoint.tap]);
  });

  it('has the name of a living relay, whose port is not touched', async () => {
    const sandbox = box.current;
    const first = await startRelay(sandbox, { network: NETWORK });
    const portOf = (): Promise<string> => sandbox.vsctl('get', 'Port', first.tap, '_uuid');
    const port = await portOf();
    const other = newEndpoint(sandbox);
    const refused = await refusal('tap-name-in-use', {
      network: NETWORK,
      endpointArgs: [...other.relayArgs, '--tap', first.tap],
    });
    expectNamed(refused, first.tap);
    expect(await portOf()).toBe(port);
    expect(first.events.map(({ event }) => event)).not.toContain('degraded');
    expect(await first.stop()).toEqual(CLEAN_EXIT);
  });

  it("has the name of somebody else's OVS port, which stays", async () => {
    const sandbox = box.current;
    const endpoint = newEndpoint(sandbox);
    await sandbox.vsctl('add-port', 'br-int', endpoint.tap, 'tag=5');
    sandbox.defer(async () => void (await sandbox.vsctl('del-port', endpoint.tap)));
    const refused = await refusal('ovs-port-in-use', { network: NETWORK, endpoint });
    expectNamed(refused, endpoint.tap, 'arca-owner', `ovs-vsctl del-port ${endpoint.tap}`);
    expect(await sandbox.vsctl('get', 'Port', endpoint.tap, 'tag')).toBe('5');
  });

  it('has a name that no device can have', async () => {
    const { listenAddress } = newEndpoint(box.current);
    for (const [name, why] of [
      ['sixteen-bytes-xx', 'longer than 15 bytes'],
      ['a/b', 'no name for a device'],
      ['tap%d', 'no name for a device'],
      ['-x', 'no name for a device'],
    ] as const) {
      const endpointArgs = ['--listen', listenAddress, `--tap=${name}`];
      expectNamed(await refusal('tap-name-invalid', { network: NETWORK, endpointArgs }), name, why);
    }
  });

  it('can not be made without CAP_NET_ADMIN', async () => {
    const refused = await refusal('permission-denied', {
      network: NETWORK,
      wrapper: ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin'],
    });
    expectNamed(refused, 'CAP_NET_ADMIN');
  });

  it('can not be made without /dev/net/tun', async () => {
    const refused = await refusal('tun-missing', {
      network: NETWORK,
      wrapper: ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'],
    });
    expectNamed(refused, '/dev/net/tun', 'mknod');
  });
});

describe('the command line', () => {
  it('is wrong', async () => {
    const here = ['--listen', 'unix:/x', '--tap', 'x'];
    for (const [code, named, endpointArgs, args] of [
      ['usage', 'exactly one of', [], ['--vlan', '100']],
      ['usage', 'exactly one of', ['--port', '5555', '--connect', 'unix:/x'], ['--vlan', '100']],
      ['usage', '--network', here, []],
      ['usage', '--port', ['--port', '0'], ['--vlan', '100']],
      ['usage', '--mtu', here, ['--vlan', '100', '--mtu', '67']],
      ['tag-invalid', '--vlan', here, ['--vlan', '4095']],
    ] as const) {
      expectNamed(await refusal(code, { endpointArgs, args }), named);
    }
  });
});
