import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createJsonStreamParser } from '../../src/ovsdb/json-stream.js';
import { beginLookUps } from '../../src/relay/look-ups.js';

/** A database server with a bridge, programs that answer what a test says, and a control socket of vswitchd. */
let folder: string;
let path: string | undefined;
let servers: Server[];
let sockets: Socket[];
let bridge: Record<string, unknown> | undefined;
let port: Record<string, unknown> | undefined;
let isSilent: boolean;

const TAG = '{"data":[["net-a",["map",[["vlan_tag","100"]]]]],"headings":["name","external_ids"]}';
const NORMAL = 'priority=0 actions=NORMAL';

function listen(name: string, onMessage: (id: unknown, socket: Socket) => void): Promise<void> {
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    const parser = createJsonStreamParser((message) => onMessage((message as { id: unknown }).id, socket));
    socket.on('data', (chunk) => parser.push(chunk));
  });
  servers.push(server);
  return new Promise((resolve) => server.listen(join(folder, name), resolve));
}

function program(name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  servers = [];
  sockets = [];
  bridge = { name: 'br-int', datapath_type: 'netdev' };
  port = undefined;
  isSilent = false;
  program('ovn-nbctl', `echo '${TAG}'`);
  program('ovs-ofctl', `echo '${NORMAL}'`);
  path = process.env['PATH'];
  process.env['PATH'] = `${folder}:${path}`;
  await listen('db.sock', (id, socket) => {
    if (isSilent) return;
    const rows = {
      Open_vSwitch: { r: { initial: {} } },
      ...(bridge && { Bridge: { b: { initial: bridge } } }),
      ...(port && { Port: { p: { initial: port } } }),
    };
    socket.write(JSON.stringify({ id, result: rows, error: null }));
  });
});

afterEach(() => {
  process.env['PATH'] = path;
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

const begin = (options: Partial<Parameters<typeof beginLookUps>[0]> = {}, signal = new AbortController().signal) =>
  beginLookUps(
    {
      ...{ network: 'net-a', vlan: undefined, nb: undefined, bridge: 'br-int', tap: 'tap0', attach: 'vlan' },
      ...{ ovsSocketPath: join(folder, 'db.sock'), timeoutMs: 5000 },
      ...options,
    },
    { OVS_RUNDIR: folder },
    signal,
  );

describe('beginLookUps', () => {
  it('finds tag and bridge, and warns that vswitchd is not watched', async () => {
    const lookUps = begin();
    expect(await lookUps.tag).toBe(100);
    const found = await lookUps.bridge;
    expect(found.bridge).toMatchObject({ name: 'br-int', datapathType: 'netdev' });
    expect(found.vswitchd).toBeUndefined();
    expect(found.warnings.map(({ message }) => message)).toEqual([expect.stringContaining('ovs-vswitchd.pid')]);
    await lookUps.cancel();
    expect(found.session.isOpen()).toBe(false);
    await lookUps.cancel();
  });

  it('connects to the vswitchd that the pidfile names', async () => {
    writeFileSync(join(folder, 'ovs-vswitchd.pid'), '42\n');
    await listen('ovs-vswitchd.42.ctl', () => {});
    const lookUps = begin();
    const { vswitchd, warnings } = await lookUps.bridge;
    expect(vswitchd?.isOpen()).toBe(true);
    expect(warnings).toEqual([]);
    await lookUps.cancel();
    expect(vswitchd?.isOpen()).toBe(false);
  });

  it('does not ask OVN for a tag that was given', async () => {
    program('ovn-nbctl', `touch ${folder}/asked`);
    const lookUps = begin({ vlan: 7 });
    expect(await lookUps.tag).toBe(7);
    await lookUps.bridge;
    expect(existsSync(join(folder, 'asked'))).toBe(false);
    await lookUps.cancel();
  });

  it('passes changes on', async () => {
    const lookUps = begin();
    await lookUps.bridge;
    const onChange = vi.fn();
    lookUps.onChange = onChange;
    for (const socket of sockets) socket.destroy();
    await vi.waitFor(() => expect(onChange).toHaveBeenCalled());
    await lookUps.cancel();
  });

  it.each<[string, () => void, string]>([
    [
      'no bridge',
      () => {
        bridge = undefined;
      },
      'bridge-missing',
    ],
    ['no NORMAL', () => program('ovs-ofctl', 'echo'), 'bridge-black-hole'],
    [
      'no flows to be had, and fail_mode secure',
      () => {
        program('ovs-ofctl', 'exit 1');
        bridge = { ...bridge, fail_mode: 'secure' };
      },
      'bridge-black-hole',
    ],
    [
      "somebody else's port",
      () => {
        port = { name: 'tap0' };
      },
      'ovs-port-in-use',
    ],
    ['a pidfile without a daemon', () => writeFileSync(join(folder, 'ovs-vswitchd.pid'), '42\n'), 'ovs-unreachable'],
  ])('refuses: %s', async (_what, arrange, code) => {
    arrange();
    const lookUps = begin();
    await expect(lookUps.bridge).rejects.toMatchObject({ code });
    await lookUps.cancel();
    await vi.waitFor(() => expect(sockets.every((socket) => socket.destroyed)).toBe(true));
  });

  it('refuses --attach auto where only OVN would forward', async () => {
    program('ovs-ofctl', 'echo');
    const lookUps = begin({ attach: 'auto' });
    await expect(lookUps.bridge).rejects.toMatchObject({ code: 'attach-unsupported' });
  });

  it('goes by fail_mode when the flows can not be read, and says so', async () => {
    program('ovs-ofctl', 'exit 1');
    const lookUps = begin();
    expect((await lookUps.bridge).warnings).toHaveLength(2);
    await lookUps.cancel();
  });

  it.each<[string, () => void, 'tag' | 'bridge', string]>([
    ['OVN hangs', () => program('ovn-nbctl', 'exec sleep 10'), 'tag', 'northbound-timeout'],
    ['OVN can not be reached', () => program('ovn-nbctl', 'echo failed >&2; exit 1'), 'tag', 'northbound-unreachable'],
    ['vswitchd hangs', () => program('ovs-ofctl', 'exec sleep 10'), 'bridge', 'ovs-timeout'],
    [
      'ovsdb-server hangs',
      () => {
        isSilent = true;
      },
      'bridge',
      'ovs-timeout',
    ],
  ])('ends in time when %s', async (_what, arrange, part, code) => {
    arrange();
    const start = performance.now();
    const lookUps = begin({ timeoutMs: 300 });
    await expect(lookUps[part]).rejects.toMatchObject({ code });
    expect(performance.now() - start).toBeLessThan(2000);
    await lookUps.cancel();
  });

  it('says that there is no database', async () => {
    const lookUps = begin({ ovsSocketPath: join(folder, 'no.sock') });
    await expect(lookUps.bridge).rejects.toMatchObject({ code: 'ovs-unreachable' });
  });

  it('can be cancelled while it waits', async () => {
    program('ovn-nbctl', 'exec sleep 10');
    isSilent = true;
    const lookUps = begin();
    const start = performance.now();
    await lookUps.cancel();
    await expect(lookUps.tag).rejects.toMatchObject({ code: 'timed-out' });
    await expect(lookUps.bridge).rejects.toMatchObject({ code: 'timed-out' });
    expect(performance.now() - start).toBeLessThan(2000);
  });
});
