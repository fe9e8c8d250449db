/** arca-control on a real OVS and OVN: what attach gives, and what detach leaves. */
import { describe, expect, it } from 'vitest';
import { startInBackground } from '../support/background.js';
import {
  addressOf,
  joinNetwork,
  makeNetwork,
  ovnRows,
  relayFiles,
  specHere,
  startControl,
} from '../support/control.js';
import { testTransport } from '../support/endpoint.js';
import { elsewhere } from '../support/nested-kernel.js';
import { useSandbox } from '../support/sandbox.js';
import { expectNothingMore, snapshot } from '../support/system.js';
import { within } from '../support/time.js';
import { PEER_TOOL } from '../support/tools.js';

const sandbox = useSandbox();

describe('attach', () => {
  it('gives all that a container needs: arca-tap with nothing but where to connect has its addresses, and pings', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control, {
      subnet: '10.9.0.0/24',
      gateway: '10.9.0.1',
      dns: ['10.9.0.1'],
      mtu: 1400,
    });
    const web = await joinNetwork(sandbox.current, control, 'web', name);
    const db = await joinNetwork(sandbox.current, control, 'db', name);
    expect(web.attachment).toMatchObject({
      ...{ container: 'web', network: name, logicalPort: `web/${name}`, vlan: 100, state: 'ready', trouble: null },
      ...{ gateway: '10.9.0.1', dns: ['10.9.0.1'], mtu: 1400, restarts: 0, restartAt: null },
      addresses: [expect.stringMatching(/^10\.9\.0\.\d+\/24$/)],
      relayPid: expect.any(Number),
      connect: expect.stringMatching(/^arca-tap --connect (unix:.*|vsock:2:\d+) --tap eth0$/),
    });
    expect(web.eth0).toMatchObject({ mac: web.attachment.mac, mtu: 1400, addresses: web.attachment.addresses });
    await web.waitUntilPings(db.address);
    const { stdout } = await web.exec('ip', ['route', 'show', 'default']);
    expect(stdout).toContain('via 10.9.0.1');
    expect(await control.listAttachments({})).toMatchObject([
      { container: 'db', connected: true },
      { container: 'web', connected: true },
    ]);
    expect(await control.health()).toMatchObject({ state: 'ok' });
  });

  elsewhere.it(
    "the ancestor's fault: an address that was drawn is in the answer, and a MAC is given once and is everybody's",
    async () => {
      const control = await startControl(sandbox.current);
      const { name } = await makeNetwork(sandbox.current, control);
      const { attachment, eth0 } = await joinNetwork(sandbox.current, control, 'web', name);
      const drawn = await sandbox.current.nbctl('get', 'Logical_Switch_Port', `web/${name}`, 'dynamic_addresses');
      expect(drawn.replaceAll('"', '')).toBe(`${attachment.mac} ${addressOf(attachment)}`);
      expect(eth0.mac).toBe(attachment.mac);
    },
  );

  elsewhere.it('takes a MAC and an address that are given', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control, { subnet: '10.70.0.0/24' });
    const given = { mac: '02:00:00:00:00:07', address: '10.70.0.7' };
    const { value } = await control.attach({ ...specHere(sandbox.current, 'web', name), ...given });
    expect(value).toMatchObject({ mac: given.mac, addresses: ['10.70.0.7/24'] });
  });

  elsewhere.it(
    'is idempotent: the same again makes nothing, other properties are a conflict that names them',
    async () => {
      const control = await startControl(sandbox.current);
      const { name } = await makeNetwork(sandbox.current, control, { subnet: '10.71.0.0/24' });
      const spec = { ...specHere(sandbox.current, 'web', name), mac: '02:00:00:00:00:08' };
      const first = await control.attach(spec);
      const second = await control.attach(spec);
      expect([first.created, second.created]).toEqual([true, false]);
      expect(second.value).toEqual(first.value);
      expect((await control.attach({ container: 'web', network: name })).created).toBe(false);
      await expect(control.attach({ ...spec, mac: '02:00:00:00:00:09', address: '10.71.0.99' })).rejects.toMatchObject({
        code: 'attachment-conflict',
        details: {
          step: 'logical-port',
          differences: [
            { property: 'mac', wanted: '02:00:00:00:00:09' },
            { property: 'address', wanted: '10.71.0.99' },
          ],
        },
      });
      expect(await control.listAttachments({})).toMatchObject([{ relayPid: first.value.relayPid, restarts: 0 }]);
    },
  );

  elsewhere.it('many at once of one container on one network make one', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const made = await Promise.all(
      Array.from({ length: 8 }, () => control.attach(specHere(sandbox.current, 'web', name))),
    );
    expect(made.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(made.map(({ value }) => value.relayPid)).size).toBe(1);
  });

  it("the ancestor's fault: a container on several networks has each of them, and detach takes one", async () => {
    const control = await startControl(sandbox.current);
    const a = await makeNetwork(sandbox.current, control);
    const b = await makeNetwork(sandbox.current, control);
    const onA = await joinNetwork(sandbox.current, control, 'web', a.name);
    const onB = await joinNetwork(sandbox.current, control, 'web', b.name);
    const peer = await joinNetwork(sandbox.current, control, 'db', b.name);
    expect(onA.attachment.tap).not.toBe(onB.attachment.tap);
    expect(await control.listAttachments({ container: 'web' })).toHaveLength(2);
    await control.detach('web', a.name);
    expect(await control.listAttachments({ container: 'web' })).toMatchObject([{ network: b.name, state: 'ready' }]);
    await onB.waitUntilPings(peer.address);
  });

  it('Test 1: VLAN isolation', async () => {
    const control = await startControl(sandbox.current);
    const a = await makeNetwork(sandbox.current, control, { subnet: '10.72.0.0/16' });
    const b = await makeNetwork(sandbox.current, control, { subnet: '10.73.0.0/16' });
    expect([a.vlan, b.vlan]).toEqual([100, 101]);
    const web = await joinNetwork(sandbox.current, control, 'web', a.name);
    const near = await joinNetwork(sandbox.current, control, 'near', a.name);
    const db = await joinNetwork(sandbox.current, control, 'db', b.name);
    const tags = await Promise.all(
      [web, db].map(({ attachment }) => sandbox.current.vsctl('get', 'Port', attachment.tap, 'tag')),
    );
    expect(tags).toEqual(['100', '101']);
    // As if they were in one subnet: only the tag is between them.
    await web.exec('ip', ['addr', 'add', '10.74.0.1/24', 'dev', 'eth0']);
    await near.exec('ip', ['addr', 'add', '10.74.0.2/24', 'dev', 'eth0']);
    await db.exec('ip', ['addr', 'add', '10.74.0.3/24', 'dev', 'eth0']);
    await web.waitUntilPings('10.74.0.2');
    expect(await web.canPing('10.74.0.3')).toBe(false);
  });
});

describe('detach', () => {
  it("the ancestor's fault: it removes what attach made; both databases and the system are as they were", async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const before = { system: await snapshot(sandbox.current), rows: await ovnRows(sandbox.current) };
    for (let round = 0; round < 2; round++) {
      await control.attach(specHere(sandbox.current, 'web', name));
      await control.detach('web', name);
      await control.waitForEvent((event) => event.type === 'detached');
    }
    expectNothingMore(before.system, await snapshot(sandbox.current));
    expect(await ovnRows(sandbox.current)).toEqual(before.rows);
    expect(await relayFiles(control)).toEqual([]);
    await expect(control.detach('web', name)).rejects.toMatchObject({ code: 'attachment-unknown' });
  });

  elsewhere.it('of a network that is removed by force comes first', async () => {
    const control = await startControl(sandbox.current);
    const before = await snapshot(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    await control.attach(specHere(sandbox.current, 'web', name));
    await control.attach(specHere(sandbox.current, 'db', name));
    await expect(control.removeNetwork(name, { force: false })).rejects.toMatchObject({ code: 'network-busy' });
    await control.removeNetwork(name, { force: true });
    expect(await control.listAttachments({})).toEqual([]);
    expectNothingMore(before, await snapshot(sandbox.current));
  });

  it('removes the port and the socket that a killed relay left', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const before = await snapshot(sandbox.current);
    const { value } = await control.attach(specHere(sandbox.current, 'web', name));
    process.kill(value.relayPid ?? 0, 'SIGKILL');
    await control.detach('web', name);
    expectNothingMore(before, await snapshot(sandbox.current));
  });
});

elsewhere.describe('what is told', () => {
  it('counts over all relays, with labels that stay few', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const web = await joinNetwork(sandbox.current, control, 'web', name);
    const db = await joinNetwork(sandbox.current, control, 'db', name);
    await web.waitUntilPings(db.address);
    const framesIn = async (): Promise<number> => {
      const text = await control.metrics();
      return Number(/^arca_frames_total\{direction="stream_to_tap"\} (\d+)$/m.exec(text)?.[1]);
    };
    const text = await control.metrics();
    expect(text).toContain('arca_attachments{state="ready"} 2');
    expect(text).toContain('arca_attachments_connected 2');
    expect(text).not.toMatch(/web|db|net-|tap[0-9a-f]{8}/);
    const before = await framesIn();
    expect(before).toBeGreaterThan(2);
    await control.detach('db', name);
    expect(await framesIn()).toBeGreaterThanOrEqual(before);
  });

  it('events, in their order', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    await joinNetwork(sandbox.current, control, 'web', name);
    await control.waitForEvent((event) => event.type === 'attachment-changed' && event.connected === true);
    await control.detach('web', name);
    await control.waitForEvent((event) => event.type === 'detached');
    expect(control.seen.map(({ type }) => type).filter((type) => type !== 'health-changed')).toEqual([
      ...['network-created', 'relay-started', 'attached', 'attachment-changed', 'detached'],
    ]);
  });

  it('the health of each part, asked over its own protocol', async () => {
    const control = await startControl(sandbox.current, {
      args: ['--chassis', 'arca-control-plane', '--encap-ip', '127.0.0.1'],
    });
    const { name } = await makeNetwork(sandbox.current, control);
    await control.attach(specHere(sandbox.current, 'web', name));
    const parts = async () =>
      Object.fromEntries((await control.health()).parts.map(({ part, state }) => [part, state]));
    const well = {
      ...{ northbound: 'ok', southbound: 'ok', northd: 'ok', ovsdb: 'ok', vswitchd: 'ok', chassis: 'ok' },
      [`relay web/${name}`]: 'ok',
    };
    expect(await parts()).toEqual(well);
    try {
      await sandbox.current.pause('ovn-northd');
      await sandbox.current.pause('ovs-vswitchd');
      expect(await parts()).toEqual({ ...well, northd: 'ill', vswitchd: 'ill' });
    } finally {
      await sandbox.current.resume('ovn-northd');
      await sandbox.current.resume('ovs-vswitchd');
    }
    expect(await parts()).toEqual(well);
    await control.removeChassis('arca-control-plane');
  });
});

if (testTransport() === 'vsock') {
  describe('callers on a vsock port', () => {
    const REQUEST = 'GET /v1/version HTTP/1.1\r\nhost: arca\r\nconnection: close\r\n\r\n';

    /** What a caller with the CID 1, which is this kernel's own, is answered. */
    const ask = async (port: number): Promise<string> => {
      const caller = startInBackground(PEER_TOOL, ['pipe', `vsock:1:${port}`], { input: Buffer.from(REQUEST) });
      sandbox.current.defer(caller.destroy);
      await within(caller.ended, 'the end of the answer');
      return caller.stdout.all.join('\n');
    };

    it('are answered if their CID may call, and nobody else', async () => {
      await startControl(sandbox.current, { args: ['--listen', 'vsock:4000', '--peer-cid', '1'] });
      expect(await ask(4000)).toMatch(/^HTTP\/1\.1 200 OK/);
      await startControl(sandbox.current, { args: ['--listen', 'vsock:4001', '--peer-cid', '7'] });
      expect(await ask(4001)).toBe('');
    });
  });
}
